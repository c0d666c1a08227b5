#!/bin/bash
# Runs a class of Kafka, with the variables of the distribution's script.
base=/opt/kafka
exec java ${KAFKA_HEAP_OPTS--Xmx256M} ${KAFKA_JVM_PERFORMANCE_OPTS--server -XX:+UseG1GC -Djava.awt.headless=true} \
  -Dlog4j2.configurationFile="${KAFKA_LOG4J2:-$base/config/tools-log4j2.yaml}" ${KAFKA_OPTS-} \
  -cp "$base/libs/*" "$@"
