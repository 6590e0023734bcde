#!/bin/bash
# Hosts on one machine, for a real `ray up`: each is a network, pid, mount, uts and ipc namespace with its own
# address, /tmp, /run, home, /dev/shm and sshd. All sit on a bridge that nothing leaves.
#
#   hosts.sh up N               make N hosts, 10.231.7.1 to N
#   hosts.sh ssh I COMMAND...   run a command on host I
#   hosts.sh cut I | heal I     take host I off the bridge, put it back
#   hosts.sh down N             remove all that `up N` made
#
# LAB is a folder that every host sees. NAME begins the names of the network namespaces. BINDS lists folders,
# separated by spaces, that hosts see although they lie in /tmp or the home; they are read-only there. BIN is the
# folder of `ray`. Needs root, iproute2, openssh-server and rsync.
set -eu
: "${LAB:?}" "${NAME:?}"
NET=10.231.7
HUB=${NAME}hub

up() {
  local i host folder
  mkdir -p "$LAB"
  ssh-keygen -q -t ed25519 -N '' -f "$LAB/key"
  ip netns add "$HUB"
  ip -n "$HUB" link set lo up
  ip -n "$HUB" link add br0 type bridge
  ip -n "$HUB" addr add $NET.254/24 dev br0
  ip -n "$HUB" link set br0 up
  for i in $(seq 1 "$1"); do
    host=$NAME$i folder=$LAB/$host
    mkdir -p "$folder"/{home/.ssh,tmp}
    chmod 700 "$folder/home/.ssh"
    chmod 1777 "$folder/tmp"
    cp "$LAB/key.pub" "$folder/home/.ssh/authorized_keys"
    cp "$LAB/key" "$folder/home/.ssh/id_ed25519"
    touch "$folder/home/.bashrc"
    # A lost host is noticed within seconds instead of a minute; and hosts share the cores of this machine.
    cat >"$folder/home/.bash_profile" <<END
export PATH=$BIN:\$PATH RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
export RAY_health_check_initial_delay_ms=1000 RAY_health_check_period_ms=1000
export RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=4
export RAY_OVERRIDE_RESOURCES='{"CPU": 1}'
END
    ssh-keygen -q -t ed25519 -N '' -f "$folder/host_key"
    cat >"$folder/sshd_config" <<END
ListenAddress $NET.$i
HostKey $folder/host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
AuthorizedKeysFile $HOME/.ssh/authorized_keys
StrictModes no
MaxStartups 100:30:200
END
    ip netns add "$host"
    ip -n "$HUB" link add "link$i" type veth peer name eth0 netns "$host"
    ip -n "$HUB" link set "link$i" master br0 up
    ip -n "$host" link set lo up
    ip -n "$host" addr add $NET."$i"/24 dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$host" route add default via $NET.254  # without one, Ray takes 127.0.0.1 for the host's address
    # A pid namespace of its own, since `ray stop` ends whatever bears Ray's name.
    setsid ip netns exec "$host" unshare --pid --mount --uts --ipc --fork --kill-child \
      bash "$0" first "$i" >"$folder/log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
  done
  for i in $(seq 1 "$1"); do
    for _ in $(seq 1 100); do reach "$i" true 2>/dev/null && break; sleep 0.2; done
    reach "$i" true
  done
}

# The first process of a host: its own view of the machine, then sshd.
first() {
  local host=$NAME$1 folder=$LAB/$NAME$1 bind
  mount --make-rprivate /
  mount -t proc proc /proc
  hostname "$host"
  for bind in $LAB ${BINDS:-}; do
    case $bind in
      "$HOME"/*) inside=$folder/home/${bind#"$HOME"/} ;;
      /tmp/*) inside=$folder/tmp/${bind#/tmp/} ;;
      *) inside=$bind ;;
    esac
    mkdir -p "$inside"
    mount --bind "$bind" "$inside"
    [ "$bind" = "$LAB" ] || mount -o remount,bind,ro "$inside"
  done
  mount -t tmpfs -o size=2g tmpfs /dev/shm
  mount -t tmpfs tmpfs /run
  mkdir /run/sshd
  mount --rbind "$folder/home" "$HOME"
  mount --rbind "$folder/tmp" /tmp
  exec /usr/sbin/sshd -D -e -f "$folder/sshd_config"
}

reach() {
  local i=$1
  shift
  ip netns exec "$HUB" ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ConnectTimeout=5 -i "$LAB/key" root@$NET."$i" "$@"
}

down() {
  local i host
  for i in $(seq 1 "$1"); do
    host=$NAME$i
    [ -f "$LAB/$host/pid" ] && kill -9 -- "-$(cat "$LAB/$host/pid")" 2>/dev/null || true
    ip netns del "$host" 2>/dev/null || true
  done
  ip netns del "$HUB" 2>/dev/null || true
}

case ${1:-} in
  up | down | first) "$@" ;;
  ssh) shift; reach "$@" ;;
  cut) ip -n "$HUB" link set "link$2" down ;;
  heal) ip -n "$HUB" link set "link$2" up ;;
  *) sed -n '2,13p' "$0"; exit 2 ;;
esac
