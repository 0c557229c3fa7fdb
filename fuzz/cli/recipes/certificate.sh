# Once: a certificate for all of them.  Keep the key: whoever has it can run what he likes on all
# machines of the cluster, the one of the session included.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj /CN=pmdfuzz -keyout key.pem -out cert.pem
TLS="--tls-ca-file cert.pem --tls-cert cert.pem --tls-key key.pem"
