# The driver for vDPA disks passes every check that drivers must pass, with a wake-up for each queue and with polling.
#
# devices: vdpa
# limit: 200
# beside: no
# programs: device-conformance
. /guest/lib.sh

expect "the driver conforms" device-conformance vduse
expect "the driver conforms with a polled queue" device-conformance vduse num-poll-queues=1
