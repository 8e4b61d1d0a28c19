# What scenarios that measure share. Needs lib.sh.
#
# Processors are emulated: only ratios mean anything. Servers take turns.

ROUNDS=3
met=0 goals=0

# measure URI: requests of 4 KiB in a second.
measure() {
    fio --name=m --ioengine=nbd --uri="$1" --rw=randread --bs=4k --size=32M --iodepth=32 --time_based --runtime=6 \
        --minimal --output=fio.out >fio.log 2>&1
    # Field 8 of the terse format, version 3: IOPS of reads.
    tail -n 1 fio.out | cut -d';' -f8
}

# goal TEXT VALUE LEAST, in hundredths.
goal() {
    goals=$((goals + 1))
    word=MISSED
    [ "$2" -lt "$3" ] || { met=$((met + 1)) word=met; }
    printf '%-44s %3d.%02d  goal %d.%02d  %s\n' "$1" $(($2 / 100)) $(($2 % 100)) $(($3 / 100)) $(($3 % 100)) $word
}

# counted NAME: the sum of a number that queues tell at their end.
counted() {
    total=0
    for number in $(grep -o "$1=[0-9]*" log | cut -d= -f2); do
        total=$((total + number))
    done
    echo $total
}

# processor_time PID: what the process has used, in ticks of the kernel.
processor_time() {
    # Fields 14 and 15 are counted behind the name, which may have blanks.
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# blkio_start DRIVER WORD…: nbdkit's plugin on nbdkit.sock.
blkio_start() {
    # It leaves its socket behind.
    rm -f nbdkit.sock
    nbdkit -U nbdkit.sock -P nbdkit.pid blkio "$@"
}

# end_of PIDFILE: ends the server of it, which is no child of ours.
end_of() {
    local pid
    read -r pid <"$1"
    kill "$pid"
    wait_for 10 ended "$pid"
    rm -f "$1"
}

# ratio VALUE VALUE: in hundredths.
ratio() {
    echo $(($1 * 100 / ($2 > 0 ? $2 : 1)))
}

# all_met: the scenario's last word.
all_met() {
    echo "$met of $goals goals met"
    [ $met = $goals ]
}
