#!/bin/busybox sh
# First program of the machine: shows it this machine's files, read-only under a layer of memory, and runs one command.
B=/bin/busybox
export PATH=/bin
$B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev
for f in /m/*.ko; do $B insmod "$f"; done
. /vm.env
die() { echo "init: $*" >/dev/ttyS0; $B poweroff -f; }
$B mount -t virtiofs -o ro host /lower || die "no files of the host"
$B mount -t tmpfs -o size=60% t /upper; $B mkdir /upper/u /upper/w
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w o /root || die "no overlay"
for d in proc sys dev; do $B mkdir -p /root/$d; $B mount --move /$d /root/$d; done
$B mkdir -p /root/dev/pts /root/dev/shm
$B mount -t devpts d /root/dev/pts; $B mount -t tmpfs t /root/dev/shm
$B mount -t tmpfs t /root/run
case "$DIR" in /tmp/*) ;; *) $B mount -t tmpfs t /root/tmp ;; esac
$B mount -t cgroup2 cgroup2 /root/sys/fs/cgroup; $B mount -t tracefs tracefs /root/sys/kernel/tracing
$B mkdir -p "/root/usr/lib/modules/$RELEASE"
$B mount --bind "/root$MODULES" "/root/usr/lib/modules/$RELEASE" || die "no modules"
$B cp /vm.sh /vm.env /root/run/
echo "${RELEASE%%-*}" >/root/proc/sys/kernel/hostname
$B ip link set lo up
$B stty -F /root/dev/ttyS1 raw -echo
exec $B switch_root /root /bin/sh -c '. /run/vm.env; cd "$DIR"; export PATH HOME=/root TERM=dumb
  setsid -w /bin/bash /run/vm.sh </dev/null >/dev/ttyS1 2>/dev/ttyS2
  busybox poweroff -f; sleep 60'
