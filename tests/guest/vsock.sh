# Clients come over vsock: on a port of their own choice and a free one, beside other places, with much data.
#
# devices: none
# limit: 60
# beside: yes
. /guest/lib.sh

# copy ARGUMENT…: nbdcopy over vsock. Now and then (once in 200 times on Linux 6.12) the end of the server's stream is
# an error to the client, behind everything else: that of a socket that was never connected.
copy() {
    nbdcopy "$@" 2>copy.err && return
    cat copy.err >&2
    [ "$(grep -v ': nbd_shutdown: recv: Transport endpoint is not connected$' copy.err)" = "" ]
}

random_file data 24
gateway_start both --vsock=10901 memory 64M
expect "a client finds the server by its port" [ "$(nbdinfo --size nbd+vsock://1:10901)" = 67108864 ]
expect "a copy goes there" copy --flush data nbd+vsock://1:10901
expect "a copy comes back by the socket beside it" nbdcopy "$(uri both)" back
expect "both are one disk" cmp -n $((24 << 20)) data back
expect "a copy comes back" copy nbd+vsock://1:10901 back
expect "it is the same" cmp -n $((24 << 20)) data back
gateway_stop both

# Payload memory so short that writes take only as much of it as has arrived.
gateway_start short --vsock=10902 --memory 1M memory 64M
expect "copies go on when memory is short" copy --connections=16 --requests=64 --flush data nbd+vsock://1:10902
expect "and come back" copy --connections=16 --requests=64 nbd+vsock://1:10902 back
expect "they are the same" cmp -n $((24 << 20)) data back
gateway_stop short

expect "the URI of a free port works" gateway --vsock=0 memory 64M --run 'nbdinfo "$uri"'
expect "the port of -p is that of --vsock" gateway --vsock -p 10903 memory 64M \
    --run 'test "$uri" = nbd+vsock://1:10903 && nbdinfo "$uri"'
