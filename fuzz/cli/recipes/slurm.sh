# In a folder that all nodes see: pmdfuzz, as `pmdfuzz cluster by-hand` says, and
python3 -m pip install dask-jobqueue

# The scheduler, on the node where you are.  It submits ten jobs, each a worker of 32 threads, and
# others in place of those that end.  Ctrl-C ends all.  For `run --against vm:KERNEL` (a path on the
# nodes) add "--resources", "vm=4" to worker_extra_args: four threads of each worker run it then.
cat > cluster.py <<'END'
import signal

from dask_jobqueue import SLURMCluster
from distributed import Security

if __name__ == "__main__":
    roles = ("client", "scheduler", "worker")
    files = {f"tls_{role}_{what}": f"{what}.pem" for role in roles for what in ("cert", "key")}
    tls = Security(require_encryption=True, tls_ca_file="cert.pem", **files)
    here = {"host": "SCHEDULER_ADDRESS", "port": 8786, "dashboard_address": "127.0.0.1:8787"}
    cluster = SLURMCluster(
        cores=32,
        processes=1,
        memory="64GB",
        walltime="24:00:00",
        worker_extra_args=["--dashboard-address", "127.0.0.1:0"],
        protocol="tls://",
        security=tls,
        scheduler_options=here,
    )
    print(cluster.job_script())
    cluster.adapt(minimum_jobs=10, maximum_jobs=10)
    signal.pause()
END
python3 cluster.py

# The session, on the same node or one that reaches it.
pmdfuzz run --cluster tls://SCHEDULER_ADDRESS:8786 $TLS
