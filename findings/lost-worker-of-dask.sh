#!/usr/bin/env bash
# LocalCluster gives a worker up that its nanny is still bringing back: one that was killed and takes
# longer than 15 s to start (distributed.deploy.lost-worker-timeout, documented for lost jobs) is
# closed, nanny and all.  Nothing takes its place: the plan has it, the cluster has not, for ever, and
# nothing is logged about it.  Asking for as many as there are, scale(1), brings it back.
# usage: findings/lost-worker-of-dask.sh        needs Python 3.11 or later, and pip; takes two minutes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distributed==2026.8.0 2>/dev/null
cd "$folder"
echo 'import os, time; time.sleep(20 * os.path.exists("slow"))' >slow_start.py
cat >lost.py <<'END_OF_PYTHON'
"""What is there after a worker was killed: planned, and workers after so many seconds."""
import logging, os, signal, time
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", preload=["slow_start.py"]
    ) as cluster, Client(cluster) as client:
        (pid,) = client.run(os.getpid).values()
        open("slow", "w").close()  # from now on a start takes 20 s, as on a busy machine
        os.kill(pid, signal.SIGKILL)
        for seconds in (10, 60):
            time.sleep(seconds)
            print(f"{seconds} s later: {len(cluster.plan)} planned, {len(cluster.workers)} kept,", end=" ")
            print(len(client.scheduler_info()["workers"]), "there")
        os.unlink("slow")
        cluster.scale(len(cluster.plan))
        client.wait_for_workers(1, timeout=60)
        print("scale(1): 1 there")
END_OF_PYTHON
found=$(venv/bin/python lost.py 2>/dev/null)
printf 'distributed 2026.8.0\n%s\n' "$found"
[[ $found == $'10 s later: 1 planned, 1 kept, 0 there\n60 s later: 1 planned, 0 kept, 0 there\nscale(1): 1 there' ]] ||
    { echo "this has changed" >&2; exit 1; }
