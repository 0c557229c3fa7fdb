#!/usr/bin/env bash
# dask listens where it was not told to: `dask scheduler --host 127.0.0.1` has its dashboard on all
# addresses, though it logs http://127.0.0.1:8787; `dask worker` without --host listens on all
# addresses, though it logs 127.0.0.1; and LocalCluster(dashboard_address=None), which is documented
# to disable the dashboard, has an HTTP server all the same.
# usage: findings/listening-of-dask.sh        needs Python 3.11 or later, pip and Linux's /proc
set -euo pipefail
folder=$(mktemp -d)
pids=()
finish() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distributed==2026.8.0 2>/dev/null
cd "$folder"
cat >listening.py <<'END'
"""The addresses that a process and its children listen on: 127.0.0.1 or 0.0.0.0."""
import sys, psutil
one = psutil.Process(int(sys.argv[1]))
print(*sorted({
    connection.laddr.ip
    for process in (one, *one.children(recursive=True))
    for connection in process.net_connections("tcp")
    if connection.status == "LISTEN" and ":" not in connection.laddr.ip
}))
END
cat >local.py <<'END'
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=False
    ) as cluster:
        print(cluster.scheduler.http_server is not None)
END
listening() { "$folder/venv/bin/python" listening.py "$1"; }
"$folder/venv/bin/dask" scheduler --host 127.0.0.1 --port 28786 >scheduler.log 2>&1 &
pids+=($!)
until grep -q 'dashboard at' scheduler.log; do sleep 0.5; done
"$folder/venv/bin/dask" worker tcp://127.0.0.1:28786 --nworkers 1 --no-dashboard >worker.log 2>&1 &
pids+=($!)
until grep -q 'Register worker' scheduler.log; do sleep 0.5; done
scheduler=$(listening "${pids[0]}") worker=$(listening "${pids[1]}") none=$(venv/bin/python local.py 2>/dev/null)
echo "distributed 2026.8.0"
echo "dask scheduler --host 127.0.0.1 listens on: $scheduler"
echo "  and logs: $(grep -o 'dashboard at.*' scheduler.log)"
echo "dask worker tcp://127.0.0.1:28786 --no-dashboard listens on: $worker"
echo "  and logs: $(grep -o 'Listening to.*' worker.log | head -n 1)"
echo "LocalCluster(dashboard_address=None) has an HTTP server: $none"
[[ $scheduler == *0.0.0.0* && $worker == *0.0.0.0* && $none == True ]] || { echo "this has changed" >&2; exit 1; }
