#!/bin/bash
# Certificates and keys of a small federation, all new at every call and good for two days: for the demo and for tests.
# How a consortium makes its own is in fedclient/flower/DEPLOY.md; the kinds and extensions are the same.
set -euo pipefail
umask 077  # every key is 0600

usage() {
    cat >&2 <<'H'
usage: certificates.sh FOLDER HOSPITAL...           an authority, a server on loopback, these hospitals
       certificates.sh --revoke FOLDER HOSPITAL...  puts hospitals on the authority's revocation list

  ca.pem ca.key ca.crl         the consortium's authority (P-384) and its revocation list
  server.pem server.key        TLS of the server: localhost, 127.0.0.1, ::1
  server.pin next.pin          what hospitals pin: SHA-256 of the server's public key (SPKI), hex; now and next
  next.key                     the server's next key
  HOSPITAL.pem HOSPITAL.key    one P-384 pair a hospital: TLS client and node key; HOSPITAL.pub is its public half
  consortium.key consortium.pub  Ed25519: signs global models; hospitals pin the public half
H
    exit 2
}

revoke=no
if [ "${1:-}" = --revoke ]; then
    revoke=yes
    shift
fi
[ $# -ge 2 ] || usage
folder=$1
shift
for name in "$@"; do
    case $name in
        *[!a-z0-9-]* | -* | '' | ca | server | next | consortium)
            echo "certificates.sh: '$name' is no name for a hospital: use a-z, 0-9 and -" >&2
            exit 2
            ;;
    esac
done
command -v openssl >/dev/null || { echo "certificates.sh: openssl is not installed" >&2; exit 1; }

quietly() {  # openssl talks on stderr even when all is well
    local said
    said=$(openssl "$@" 2>&1) || {
        printf 'certificates.sh: openssl %s failed:\n%s\n' "$1" "$said" >&2
        exit 1
    }
}
new_key() { quietly genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$1"; }
pin() { openssl pkey -in "$1" -pubout -outform der 2>/dev/null | sha256sum | cut -c -64; }
issue() {  # name, common name, extensions
    new_key "$1.key"
    quietly req -new -key "$1.key" -subj "/O=cardionode demo/CN=$2" -out "$1.csr"
    printf '%s\n' "$3" >"$1.ext"
    quietly x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -set_serial "0x01$(openssl rand -hex 15)" -days 2 -sha384 \
        -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}
list() { quietly ca -config ca.cnf -gencrl -crldays 2 -out ca.crl; }

if [ "$revoke" = yes ]; then
    cd "$folder"
    for name in "$@"; do
        [ -f "$name.pem" ] || { echo "certificates.sh: no certificate of $name in $folder" >&2; exit 1; }
        quietly ca -config ca.cnf -revoke "$name.pem"
    done
    list
    exit 0
fi

mkdir -p "$folder"
cd "$folder"
cat >ca.cnf <<'C'
[ca]
default_ca = consortium
[consortium]
database = index.txt
crlnumber = crlnumber
default_md = sha384
certificate = ca.pem
private_key = ca.key
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
C
: >index.txt
echo 01 >crlnumber
new_key ca.key
quietly req -x509 -new -config ca.cnf -key ca.key -subj "/O=cardionode demo/CN=demo consortium" -days 2 -sha384 \
    -out ca.pem
list
leaf='basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid'
issue server localhost "$leaf
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1"
new_key next.key
pin server.key >server.pin
pin next.key >next.pin
for name in "$@"; do
    issue "$name" "$name" "$leaf
extendedKeyUsage = clientAuth"
    openssl pkey -in "$name.key" -pubout -out "$name.pub"
done
quietly genpkey -algorithm ed25519 -out consortium.key
openssl pkey -in consortium.key -pubout -out consortium.pub
