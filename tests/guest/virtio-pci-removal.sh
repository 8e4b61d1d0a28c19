# A virtio disk leaves the PCI bus while it is served: requests fail, the removal completes, nobody else notices.
#
# devices: virtio-split
# limit: 90
# beside: no
# emulator: one-thread
. /guest/lib.sh

vfio_bind virtio-split
device=/sys/bus/pci/devices/$(pci_address virtio-split)
gateway_start front virtio-blk-vfio-pci path="$device"
gateway_start beside memory 16M
expect "it works" nbdcopy "$(uri front)" null:

# One client that is busy, and one that is connected and idle.
fio --name=busy --ioengine=nbd --uri="$(uri front)" --rw=randrw --bs=4k --size=16M --iodepth=16 --time_based \
    --runtime=60 >fio.out 2>&1 &
busy=$!
sleep 2
alive $busy || fail "fio ended early: $(cat fio.out)"
expect "the removal completes" timeout 30 sh -c "echo 1 >$device/remove"
expect "the device is gone" [ ! -e "$device" ]
! wait $busy || fail "fio noticed nothing"
expect "requests ended with input/output errors" grep -qi "input/output error" fio.out
! qemu-io -f raw -c "read 0 4k" "$(uri front)" >said 2>&1 || fail "a read of nothing succeeded"
expect "another server notices nothing" nbdcopy "$(uri beside)" null:
expect "the server itself still answers" nbdinfo --size "$(uri front)"
read -r pid <front.pid
kill "$pid"
status=0
wait "$pid" || status=$?
expect "it says at its end that writes may be lost" [ $status = 1 ]
gateway_stop beside

echo 1 >/sys/bus/pci/rescan
vfio_bind virtio-split
gateway_start again virtio-blk-vfio-pci path="$device"
expect "it works after its return" nbdcopy "$(uri again)" null:
gateway_stop again
