#!/usr/bin/env bash
# A throw-away CA with one server and one client certificate, for loopback tests.
#   certs.sh DIR     writes ca.pem, server.{pem,key}, client.{pem,key}, server-chain.pem (key + certificate)
# Idempotent: does nothing when DIR/.done is there. Needs openssl.
set -euo pipefail
dir=${1:?usage: certs.sh DIR}
[ -e "$dir/.done" ] && exit 0
mkdir -p "$dir" && cd "$dir" && umask 077
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Test CA" -keyout ca.key -out ca.pem \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
for who in server client; do
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$who" -keyout $who.key -out $who.csr 2>/dev/null
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >$who.ext
  openssl x509 -req -days 3650 -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $who.ext -out $who.pem 2>/dev/null
done
cat server.key server.pem ca.pem >server-chain.pem # `openssl req` writes PKCS#8, which Kafka's PEM key store wants
rm -f ./*.csr ./*.ext
touch .done
