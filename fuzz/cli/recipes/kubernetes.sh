# An image with pmdfuzz, for scheduler and workers; push it where Kubernetes finds it.
docker build -t pmdfuzz -f - . <<'END'
FROM python:3.13-slim
COPY . /pmdfuzz
RUN pip install -c /pmdfuzz/constraints.txt '/pmdfuzz[fuzz,cluster]'
END

# For `run --against vm:KERNEL` put qemu-system-x86, gcc and KERNEL into it, too, and add --resources,
# "vm=2" to the args of the worker: two threads of each run it then.

# The operator of dask-kubernetes makes pods of this; its documentation tells how to install it.
kubectl create secret generic pmdfuzz-tls --from-file=cert.pem --from-file=key.pem
kubectl apply -f - <<'END'
apiVersion: kubernetes.dask.org/v1
kind: DaskCluster
metadata:
  name: pmdfuzz
spec:
  worker:
    replicas: 10
    spec:
      containers:
      - name: worker
        image: pmdfuzz
        args: [dask, worker, "tls://pmdfuzz-scheduler:8786", --name, $(DASK_WORKER_NAME),
               --nthreads, "8", --tls-ca-file, /tls/cert.pem, --tls-cert, /tls/cert.pem,
               --tls-key, /tls/key.pem]
        resources:
          requests: {cpu: "8", memory: 16Gi}
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: pmdfuzz-tls}}]
  scheduler:
    spec:
      containers:
      - name: scheduler
        image: pmdfuzz
        args: [dask, scheduler, --protocol, tls, --tls-ca-file, /tls/cert.pem,
               --tls-cert, /tls/cert.pem, --tls-key, /tls/key.pem]
        ports:
        - {name: tcp-comm, containerPort: 8786}
        - {name: http-dashboard, containerPort: 8787}
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: pmdfuzz-tls}}]
    service:
      type: ClusterIP
      selector: {dask.org/cluster-name: pmdfuzz, dask.org/component: scheduler}
      ports:
      - {name: tcp-comm, protocol: TCP, port: 8786, targetPort: tcp-comm}
      - {name: http-dashboard, protocol: TCP, port: 8787, targetPort: http-dashboard}
END

# The session, here; it talks to the scheduler only.
kubectl port-forward service/pmdfuzz-scheduler 8786 &
pmdfuzz run --cluster tls://127.0.0.1:8786 $TLS
