#!/usr/bin/env bash
# Apache Kafka 4.4 (KRaft, broker and controller in one process) on loopback. Needs Java 17, Maven, openssl; no root.
#
#   kafka.sh install               jars from Maven Central, certificates; once
#   kafka.sh start PORT DATADIR    runs in the foreground (exec: its PID is the broker's); formats DATADIR when it is new
#   ready:  ready.sh PORT [SECONDS]
#   stop:   SIGTERM; after kill -9 start again on the same DATADIR
#
# Listeners, all on 127.0.0.1:
#   PORT    PLAINTEXT
#   PORT+1  controller
#   PORT+2  SASL_SSL   PLAIN, SCRAM-SHA-256, SCRAM-SHA-512: user app/app-secret
#   PORT+3  SSL        client certificate required (tls/client.pem)
#
# Environment:
#   MEDIATION_CACHE   where things are installed (default ~/.cache/mediation-engine)
#   KAFKA_LOG=WARN    INFO for the broker's full log
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MEDIATION_CACHE:-$HOME/.cache/mediation-engine}
libs=$cache/kafka-4.4.0
tls=$cache/tls

# Small heap, serial GC and the C1 compiler only: a test broker starts and stops more often than it runs.
java=(java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError
  "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties" "-Dkafka.log=${KAFKA_LOG:-WARN}" -cp "$libs/*")

install() {
  [ -e "$libs/.done" ] && [ -e "$tls/.done" ] && return
  mkdir -p "$cache"
  (
    flock 9 # runs that start side by side install once
    "$here/certs.sh" "$tls"
    [ -e "$libs/.done" ] && exit
    echo "kafka.sh: Apache Kafka 4.4.0 into $libs" >&2
    rm -rf "$libs"
    mvn -B -q -f "$here/kafka/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$libs"
    archive
    touch "$libs/.done"
  ) 9>"$cache/kafka.lock"
}

# One throw-away run writes a class-data archive, which halves every later start.
archive() {
  local port=$((20000 + RANDOM % 10000)) tmp
  tmp=$(mktemp -d)
  (run "$port" "$tmp/data" "-XX:ArchiveClassesAtExit=$tmp/jsa" >"$tmp/log" 2>&1) &
  local pid=$!
  if "$here/ready.sh" "$port" 90 "$pid"; then
    kill "$pid"
    wait "$pid" || true
  else
    kill -9 "$pid" 2>/dev/null || true
    tail -n 5 "$tmp/log" >&2
    echo "kafka.sh: no class-data archive; starts will be slower" >&2
  fi
  [ ! -e "$tmp/jsa" ] || mv "$tmp/jsa" "$libs/kafka.jsa"
  rm -rf "$tmp"
}

run() { # <port> <data folder> [JVM options...]
  local port=$1 dir=$2
  shift 2
  mkdir -p "$dir/tmp" # native libraries, which kill -9 would leave behind in the system's own
  java+=("-Djava.io.tmpdir=$dir/tmp")
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1)),SASL_SSL://127.0.0.1:$((port + 2)),SSL://127.0.0.1:$((port + 3))
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL_SSL://127.0.0.1:$((port + 2)),SSL://127.0.0.1:$((port + 3))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/log
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_app="app-secret";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=$tls/server-chain.pem
ssl.truststore.type=PEM
ssl.truststore.location=$tls/ca.pem
listener.name.ssl.ssl.client.auth=required
auto.create.topics.enable=false
num.partitions=3
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
message.max.bytes=4194304
log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=4
background.threads=2
PROPERTIES
  [ ! -e "$libs/kafka.jsa" ] || java+=("-XX:SharedArchiveFile=$libs/kafka.jsa")
  if [ ! -e "$dir/log/meta.properties" ]; then
    "${java[@]}" kafka.tools.StorageTool format -c "$dir/server.properties" -t bWVkaWF0aW9uLWVuZ2luZQ \
      -S 'SCRAM-SHA-256=[name=app,password=app-secret]' -S 'SCRAM-SHA-512=[name=app,password=app-secret]'
  fi
  exec "${java[@]}" "$@" kafka.Kafka "$dir/server.properties"
}

case ${1:-} in
install) install ;;
start) install && run "${2:?PORT}" "${3:?DATADIR}" ;;
*) sed -n '2,/^set -e/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
