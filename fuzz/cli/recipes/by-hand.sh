# On every machine, the scheduler's included, in a checkout of the same commit, for the same Python:
python3 -m pip install -c constraints.txt '.[fuzz,cluster]'

# The scheduler.  Without --dashboard-address its dashboard is open to everybody.
dask scheduler --protocol tls --host SCHEDULER_ADDRESS --port 8786 --dashboard-address 127.0.0.1:8787 $TLS

# On each machine a worker, which does as many tasks at a time as it has threads.  Its --host is its
# own address; without, it listens on all of them.  It ends with its scheduler; then it tries again.
while sleep 5; do
    dask worker tls://SCHEDULER_ADDRESS:8786 --host OWN_ADDRESS --nworkers 1 --nthreads "$(nproc)" \
        --dashboard-address 127.0.0.1:0 $TLS
done

# For `run --against vm:KERNEL`: workers with the resource "vm" run it, each where KERNEL is a path of
# its own machine, and keep a thread for each such subject.
dask worker tls://SCHEDULER_ADDRESS:8786 --host OWN_ADDRESS --nworkers 1 --nthreads 1 \
    --resources "vm=1" --dashboard-address 127.0.0.1:0 $TLS

# The session.
pmdfuzz run --cluster tls://SCHEDULER_ADDRESS:8786 $TLS
