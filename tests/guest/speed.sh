# In front of the same disks as nbdkit's blkio plugin, at depth 32: twice the requests, 4 for each notification.
#
# devices: virtio-split virtio-packed vdpa
# limit: 400
# beside: no
# measures: yes
. /guest/lib.sh
. /guest/measuring.sh

# compare NAME DRIVER WORD…
compare() {
    name=$1 least=1000000 kicks=0 calls=0 ended=0
    shift
    for round in $(seq $ROUNDS); do
        gateway_start us -v "$@" 2>log
        ours=$(measure "$(uri us)")
        gateway_stop us >/dev/null
        ended=$((ended + $(counted ended))) kicks=$((kicks + $(counted kicks))) calls=$((calls + $(counted calls)))
        blkio_start "$@"
        theirs=$(measure "$(uri nbdkit)")
        end_of nbdkit.pid
        echo "$name, round $round: $ours against $theirs requests in a second"
        ratio=$(ratio "$ours" "$theirs")
        [ "$ratio" -ge $least ] || least=$ratio
    done
    goal "$name: requests beside nbdkit, worst round" $least 200
    goal "$name: requests for each kick" $((ended * 100 / (kicks + 1))) 400
    goal "$name: requests for each call" $((ended * 100 / (calls + 1))) 400
}

for disk in virtio-split virtio-packed; do
    vfio_bind $disk >/dev/null
    compare $disk virtio-blk-vfio-pci path="/sys/bus/pci/devices/$(pci_address $disk)"
done
truncate -s 64M image
compare vhost-vdpa virtio-blk-vhost-vdpa path="$(vdpa_create vduse0 "$PWD/image" num-queues=2)"
vdpa_remove vduse0
all_met
