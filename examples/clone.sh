#!/bin/sh
# Copies an image of any format into a raw disk that the gateway serves for that time, read from the block layer or past
# the page cache.
#
#     clone.sh IMAGE DISK         such as: clone.sh fedora.qcow2 /dev/vg/fedora
#
# Needs qemu-img (package qemu-utils).
set -eu

exec gateway -U - io_uring path="$2" --run "qemu-img convert -n -O raw '$1' \"\$uri\""
