# In front of the same disks as nbdkit's blkio plugin, at depth 32: twice the requests, 4 for each notification.
#
# Processors are emulated: only ratios mean anything. Servers take turns.
#
# devices: virtio-split virtio-packed vdpa
# limit: 400
# beside: no
# measures: yes
. /guest/lib.sh

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

# compare NAME DRIVER WORD…
compare() {
    name=$1 least=1000000 kicks=0 calls=0 chains=0
    shift
    for round in $(seq $ROUNDS); do
        gateway_start us -v "$@" 2>log
        ours=$(measure "$(uri us)")
        gateway_stop us >/dev/null
        chains=$((chains + $(counted chains))) kicks=$((kicks + $(counted kicks))) calls=$((calls + $(counted calls)))
        nbdkit -U nbdkit.sock -P nbdkit.pid blkio "$@"
        theirs=$(measure "nbd+unix:///?socket=$PWD/nbdkit.sock")
        read -r pid <nbdkit.pid
        kill "$pid"
        wait_for 10 ended "$pid"
        rm -f nbdkit.pid nbdkit.sock
        echo "$name, round $round: $ours against $theirs requests in a second"
        ratio=$((ours * 100 / theirs))
        [ $ratio -ge $least ] || least=$ratio
    done
    goal "$name: requests beside nbdkit, worst round" $least 200
    goal "$name: requests for each kick" $((chains * 100 / (kicks + 1))) 400
    goal "$name: requests for each call" $((chains * 100 / (calls + 1))) 400
}

for disk in virtio-split virtio-packed; do
    vfio_bind $disk >/dev/null
    compare $disk virtio-blk-vfio-pci path="/sys/bus/pci/devices/$(pci_address $disk)"
done
truncate -s 64M image
compare vhost-vdpa virtio-blk-vhost-vdpa path="$(vdpa_create vduse0 "$PWD/image" num-queues=2)"
vdpa_remove vduse0
echo "$met of $goals goals met"
[ $met = $goals ]
