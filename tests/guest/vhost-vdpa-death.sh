# A vDPA disk whose program is killed: the kernel tells nobody, so requests end with errors when their time is over.
#
# devices: vdpa
# limit: 150
# beside: no
. /guest/lib.sh

truncate -s 16M image
node=$(vdpa_create vduse1 "$PWD/image")
gateway_start front virtio-blk-vhost-vdpa path="$node" request-timeout=2
gateway_start beside memory 16M
expect "it works" nbdcopy "$(uri front)" null:
read -r daemon <vduse1.pid
kill -9 "$daemon"
wait_for 10 ended "$daemon"

! qemu-io -f raw -c "read 0 4k" "$(uri front)" >said 2>&1 || fail "a read of nothing succeeded"
expect "the read ended with an input/output error" grep -q "Input/output error" said
started=$(date +%s)
! qemu-io -f raw -c "write 0 4k" "$(uri front)" >said 2>&1 || fail "a write to nothing succeeded"
expect "the next one is refused at once" [ $(($(date +%s) - started)) -le 2 ]
expect "another server notices nothing" nbdcopy "$(uri beside)" null:
expect "the server itself still answers" [ "$(nbdinfo --size "$(uri front)")" = 16777216 ]
read -r pid <front.pid
kill "$pid"
gateway_stop beside
# The kernel closes the device, which takes half a minute without the program behind it.
wait "$pid"
