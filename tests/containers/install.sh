#!/usr/bin/env bash
# Installs what the container tests need, on Debian as root: a Docker engine with the compose plugin,
# and mmdebstrap for the base image. Starts nothing.
set -euo pipefail
missing=()
command -v dockerd >/dev/null || missing+=(docker.io)
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v iptables >/dev/null || missing+=(iptables)
command -v ip >/dev/null || missing+=(iproute2)
# Stands in for its image.
command -v prometheus >/dev/null || missing+=(prometheus)
if ((${#missing[@]})); then
  apt-get update -qq
  # The package would start an engine for the whole machine, where there is an init system.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
docker compose version >/dev/null 2>&1 && exit

# Debian has Compose 2 from trixie on; its binary needs no more than bookworm has. Lists and package
# stay in a directory of their own, so that the machine's release does not change.
plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,archives}/partial "$plugins"
chmod -R a+rx "$work"
sed -E '/^Suites:/s/bookworm(-[a-z]+)?/trixie\1/g' /etc/apt/sources.list.d/debian.sources \
  > "$work/trixie.sources"
trixie() {
  apt-get -qq -o Dir::Etc::sourcelist="$work/trixie.sources" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$work/lists" -o Dir::Cache::archives="$work/archives" \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Languages=none \
    -o APT::Sandbox::User=root "$@"
}
trixie update
(cd "$work" && trixie download docker-compose && dpkg-deb -x docker-compose_*.deb out)
install -m 755 "$work/out/usr/libexec/docker/cli-plugins/docker-compose" "$plugins/docker-compose"
docker compose version
