/*
 * init of a machine that runs each program that /list names, and tells on its console what they print
 * and how they end; see booted.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		printf("%s cannot be set\n", path);
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	static const char *const kinds[][2] = {
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/sys/fs/cgroup", "cgroup2"},
	};
	char name[256];
	FILE *list;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		mkdir(kinds[i][0], 0755);
		mount(kinds[i][1], kinds[i][0], kinds[i][1], 0, NULL);
	}
	set("/proc/sys/kernel/printk", "1"); /* so that nothing comes in between */
	set("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	setvbuf(stdout, NULL, _IOLBF, 0);
	list = fopen("/list", "re");
	while (list && fgets(name, sizeof name, list)) {
		pid_t child;
		int status = 0;

		name[strcspn(name, "\n")] = 0;
		printf("@@ begin %s\n", name);
		child = fork();
		if (!child) {
			execl(name, name, (char *)NULL);
			_exit(127);
		}
		waitpid(child, &status, 0);
		printf("@@ end %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	}
	puts("@@ done");
	reboot(RB_POWER_OFF);
	return 1;
}
