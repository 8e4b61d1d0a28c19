# The package installs on a fresh Debian, whose systemd runs it behind a socket, and whose manual and shell know it.
#
# devices: debian
# limit: 170
# beside: no
# programs: gateway.deb
. /guest/lib.sh

root=/run/debian
disk=$(virtio_disk debian)
uri='nbd+unix:///?socket=/run/gateway/disk.sock'

# inside COMMAND…: in the Debian system.
inside() {
    nsenter -t "$init" -m -u -i -p -r -w /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root TERM=dumb "$@"
}

# unit_is STATE UNIT
unit_is() {
    [ "$(inside systemctl is-active "$2" 2>/dev/null)" = "$1" ]
}

# The system in namespaces and a control group of its own, as in a container: its first process is its systemd.
boot() {
    mkdir "$root" /sys/fs/cgroup/package/debian
    mount -t ext4 "$disk" "$root"
    mount -t devtmpfs dev "$root/dev"
    mount -t devpts pts "$root/dev/pts"
    mount -t sysfs -o ro sys "$root/sys"
    (
        echo 0 >/sys/fs/cgroup/package/debian/cgroup.procs
        exec env -i container=guest PATH=/usr/sbin:/usr/bin chroot "$root" unshare --fork --pid --mount --uts --ipc \
            --cgroup /bin/sh -c 'mount -t proc proc /proc
            mount -t tmpfs run /run
            mount -t cgroup2 cgroup /sys/fs/cgroup
            exec /usr/lib/systemd/systemd --unit=multi-user.target'
    ) >"$ARTEFACTS/systemd" 2>&1 &
    system=$!
    wait_for 20 find_init
    wait_for 60 unit_is active multi-user.target
}

# Its first process, as this system calls it. systemd puts itself into that group.
find_init() {
    read -r init </sys/fs/cgroup/package/debian/init.scope/cgroup.procs
} 2>/dev/null

# export_of NAME PATH: a disk, as the file of the service has it.
export_of() {
    printf '[[export]]\nname = "%s"\ndriver = "io_uring"\nproperties.path = "%s"\n' "$1" "$2"
}

check_manual() {
    inside man -P cat gateway-virtio-blk-vhost-user >page
    expect "the manual has the driver" grep -q '^ *reconnect-cache=' page
    inside man -P cat 5 gateway.toml >page
    expect "the manual has the file" grep -q '^ *read-only = ' page
    expect "the manual is found by words" inside apropos -e gateway-io_uring
}

# What is typed into a shell on a terminal becomes a command that serves a disk.
check_completion() {
    (
        sleep 3
        printf '. /usr/share/bash-completion/bash_completion\n'
        sleep 4
        printf 'gateway io_uring path=/srv/disk.img dir\t'
        sleep 4
        printf 't\t --run "echo completed as \\$uri"\n'
        sleep 4
        printf 'exit\n'
    ) | inside script -qec 'bash --norc --noprofile -i' /dev/null >typed || true
    cat typed
    expect "a property and its value are completed" grep -q 'direct=true' typed
    expect "the line is a right one" grep -q '^completed as nbd+unix' typed
}

# Disks of the service by its socket, which starts it.
check_service() {
    expect "the socket is there before the service" inside test -S /run/gateway/disk.sock
    expect "nothing serves yet" unit_is inactive gateway@disk.service
    expect "a client starts the service" inside nbdinfo --size "$uri"
    expect "the service runs" unit_is active gateway@disk.service
    random_file "$root/srv/data" 8
    expect "a copy to the disk" inside nbdcopy --flush /srv/data "$uri"
    expect "the disk has it" cmp "$root/srv/data" "$root/srv/disk.img"
    expect "the service runs as its user" \
        [ "$(inside stat -c %U "/proc/$(inside systemctl show -P MainPID gateway@disk)")" = gateway ]
}

# The file is read again; a block device is open to the service.
check_reload() {
    {
        export_of disk /srv/disk.img
        # The one with the system itself.
        export_of system "$disk"
        echo 'read-only = true'
    } >"$root/etc/gateway/disk.toml"
    expect "the service takes a new file" inside systemctl reload gateway@disk.service
    inside nbddump --length=2048 "nbd+unix:///system?socket=/run/gateway/disk.sock" >head
    expect "the block device is served: it has the magic number of ext4" grep -q '^0*430: .* 53 ef ' head
    expect "the service says what it does" inside systemctl status --no-pager gateway@disk.service
}

check_security() {
    inside systemd-analyze security --no-pager gateway@disk.service >"$ARTEFACTS/security"
    tail -n 1 "$ARTEFACTS/security"
    exposure=$(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p' "$ARTEFACTS/security")
    expect "the service is exposed little" awk "BEGIN { exit !($exposure > 0 && $exposure < 3.0) }"
}

check_end() {
    expect "the service stops" inside systemctl stop gateway@disk.socket gateway@disk.service
    expect "it ended well" [ "$(inside systemctl show -P Result gateway@disk.service)" = success ]
    expect "the socket is gone" inside test ! -e /run/gateway/disk.sock
    inside journalctl --no-pager -u gateway@disk.service >"$ARTEFACTS/journal"
    cat "$ARTEFACTS/journal"
    expect "it complained of nothing" [ "$(grep -c -e ' WARN ' -e ' ERROR ' "$ARTEFACTS/journal")" = 0 ]
    # Without the socket it listens where the file says.
    printf '[[listen]]\nunix = "/run/gateway/own.sock"\n' >>"$root/etc/gateway/disk.toml"
    expect "the service starts without the socket" inside systemctl start gateway@disk.service
    expect "it listens where the file says" inside nbdinfo --size 'nbd+unix:///?socket=/run/gateway/own.sock'
    expect "the package goes" inside dpkg --purge gateway
    expect "with its services" unit_is inactive gateway@disk.service
    expect "with its program" inside test ! -e /usr/bin/gateway
}

# Nothing of it stays mounted for the scenarios that follow.
shut_down() {
    inside systemctl --no-block poweroff
    wait_for 30 ended $system
    umount "$root/dev/pts" "$root/dev" "$root/sys" "$root"
}

boot
cp /host/gateway.deb "$root/var/tmp"
expect "the package installs" inside dpkg -i /var/tmp/gateway.deb
truncate -s 8M "$root/srv/disk.img"
inside chown gateway /srv/disk.img
# As udev does it.
inside chown root:disk "$disk"
inside chmod 660 "$disk"
export_of disk /srv/disk.img >"$root/etc/gateway/disk.toml"
check_manual
inside systemctl start gateway@disk.socket
check_service
check_reload
check_security
check_completion
check_end
shut_down
