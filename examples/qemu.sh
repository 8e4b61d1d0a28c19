#!/bin/sh
# Starts a virtual machine whose disk is an export: as many connections as it has queues, all of one disk.
#
#     qemu.sh URI [OPTION…]       such as: qemu.sh nbd+unix:///?socket=/run/gateway/disk.sock -m 2G
#
# Needs QEMU. What a guest discards is discarded on the disk.
set -eu

uri=$1
shift
exec qemu-system-x86_64 -machine q35 \
    -drive "if=none,id=disk,format=raw,discard=unmap,file=$uri" \
    -device virtio-blk-pci,drive=disk,num-queues=4 "$@"
