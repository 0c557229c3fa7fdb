#define RUNS 15

/*
 * What the whole system counts others change meanwhile.  So there are
 * several runs, each in a process of its own; the first one tells what it
 * does, and what most of them come to counts.
 */
static int in_most_of_several(int (*run)(void))
{
	int count[3] = { 0, 0, 0 }, status;

	for (int i = 0; i < RUNS; i++) {
		pid_t child = fork();

		if (!child) {
			silent = i > 0;
			_exit(run());
		}
		if (child < 0 || waitpid(child, &status, 0) != child ||
		    !WIFEXITED(status) || WEXITSTATUS(status) > 2)
			skip("one of several runs did not end well");
		count[WEXITSTATUS(status)]++;
	}
	tell("of %d runs %d show the defect, %d do not\n", RUNS,
	     count[1], count[0]);
	return 2 * count[1] > RUNS ? 1 : 2 * count[0] > RUNS ? 0 : 2;
}
