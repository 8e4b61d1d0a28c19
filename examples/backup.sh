#!/bin/sh
# Copies a disk to a file while it is served, several requests at a time, and leaves out its holes.
#
#     backup.sh URI FILE          such as: backup.sh nbd://storage/disk1 disk1.img
#
# The file appears under its name when it is whole. Needs nbdcopy (package libnbd-bin).
set -eu

uri=$1 file=$2
nbdcopy --requests=64 --flush "$uri" "$file.part"
mv "$file.part" "$file"
