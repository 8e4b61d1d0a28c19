#!/bin/sh
# Runs a command beside a RAM disk that lives as long as it: `$uri` is its address.
#
#     ramdisk.sh SIZE COMMAND     such as: ramdisk.sh 1G 'nbdinfo "$uri"'
set -eu

exec gateway memory "$1" --run "$2"
