#!/usr/bin/env bash
# Fetches Apache Kafka from Maven Central into target/servers/kafka/lib, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=4.1.0
folder=target/servers/kafka
[ -f "$folder/$version" ] && exit 0
mkdir -p "$folder"
cat >"$folder/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millhand</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
POM
mvn -B -q -f "$folder/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib
touch "$folder/$version"
