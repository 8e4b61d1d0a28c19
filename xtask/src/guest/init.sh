#!/bin/busybox sh
# First program of the guest: makes the system ready, runs the scenarios wave by wave, reports to the host.
#
# The report, read by report.rs, is a line for each event; times are in hundredths of a second.
#
#   boot TIME              the first scenario begins, TIME after the kernel did
#   line NAME TEXT         a scenario printed this
#   kernel NAME TEXT       the kernel logged this during a scenario that failed
#   result NAME END TIME   a scenario ended: its exit status, or `late`, or `stuck` if it cannot be killed
#   beat                   a scenario is waited for; each ten seconds, so that a guest that stands still is noticed
#   end                    nothing follows
export PATH=/usr/sbin:/usr/bin HOME=/

mount_all() {
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts /dev/shm
    mount -t devpts pts /dev/pts
    mount -t tmpfs shm /dev/shm
    mount -t cgroup2 cgroup /sys/fs/cgroup
}

# The port of this name to the host. Ports come a moment after the device.
port() {
    while :; do
        for folder in /sys/class/virtio-ports/*; do
            if [ "$(cat "$folder/name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/${folder##*/}"
                return
            fi
        done
        sleep 0.02
    done
}

# Sets `now` to the time since the kernel's start.
clock() {
    read -r now _ </proc/uptime
    # Without the point; a number that begins with 0 would be octal.
    now=${now%.*}${now#*.}
    now=${now#0}
}

# Reports each line of the input. One write for each: those of several scenarios do not mix.
relay() {
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s %s %s\n' "$1" "$2" "$line" >&3
    done
}

# The scenario itself: in a folder and a control group of its own, without the ports.
scenario() {
    echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
    cd "/run/$1/work" || exit
    export ARTEFACTS="/artefacts/$1"
    exec sh "/guest/$1.sh"
}

# Ends whatever a scenario left behind; fails if something cannot be killed.
clean() {
    echo 1 >"/sys/fs/cgroup/$1/cgroup.kill"
    tries=0
    while grep -q 'populated 1' "/sys/fs/cgroup/$1/cgroup.events"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return
        sleep 0.05
    done
}

# Runs the scenario NAME for at most SECONDS.
run() {
    name=$1 limit=$(($2 * 100)) folder=/run/$1
    mkdir -p "/sys/fs/cgroup/$name" "$folder/work" "/artefacts/$name"
    mkfifo "$folder/output"
    relay line "$name" <"$folder/output" &
    relay=$!
    clock
    begin=$now beat=$now
    (
        (scenario "$name") </dev/null 3>&- 4>&-
        echo $? >"$folder/end.new"
        mv "$folder/end.new" "$folder/end"
    ) >"$folder/output" 2>&1 &
    until [ -e "$folder/end" ]; do
        clock
        [ $((now - begin)) -lt $limit ] || break
        if [ $((now - beat)) -ge 1000 ]; then
            beat=$now
            echo beat >&3
        fi
        sleep 0.05
    done
    clock
    time=$((now - begin))
    end=late
    [ ! -e "$folder/end" ] || read -r end <"$folder/end"
    if clean "$name"; then
        # Now that nobody can write any more, the output has an end.
        wait $relay
    else
        end=stuck
    fi
    if [ "$end" != 0 ]; then
        dmesg | awk -v begin="$begin" 'substr($0, 2) * 100 >= begin' | relay kernel "$name"
    fi
    echo "result $name $end $time" >&3
    rm -rf "$folder"
}

mount_all
ip link set lo up
while read -r module; do
    insmod "/modules/$module.ko" || echo "guest: no module $module"
done </modules/order

# A console in place of scenarios.
if [ ! -s /guest/waves ]; then
    setsid cttyhack sh
    poweroff -f
fi

exec 3>"$(port report)" 4>"$(port artefacts)"
clock
echo "boot $now" >&3
while read -r wave; do
    for item in $wave; do
        run "${item%:*}" "${item#*:}" &
    done
    wait
    if [ -n "$(find /artefacts -type f)" ]; then
        tar -C /artefacts -cf - . >&4
    fi
    rm -rf /artefacts/*
done </guest/waves
sync
echo end >&3
poweroff -f
