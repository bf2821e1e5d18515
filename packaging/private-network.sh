#!/bin/sh
# Runs a command as root in network and mount namespaces of its own, where tests find what they expect of a machine: loopback, and
# an uplink whose gateway answers and knows no way further.
#
#   packaging/private-network.sh COMMAND [ARGUMENT…]
#
# Bridges, addresses, rules and mounts that an earlier run left when it was killed can't disturb this one, nor can this one disturb
# the machine: the kernel takes everything down with the last process in the namespaces.
set -eu

if [ "${1:-}" != --inside ]; then
    exec unshare --net --mount --propagation private "$0" --inside "$@"
fi
shift

# Named namespaces are files; these shall not outlive the run either.
mkdir -p /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/netns
ip netns add upstream
ip link set lo up
ip -n upstream link set lo up
ip link add uplink0 type veth peer name upstream0 netns upstream
ip link set uplink0 up
ip -n upstream link set upstream0 up
ip netns exec upstream sysctl -q -w net.ipv4.ip_forward=1

# The addresses are those kept for documentation, RFC 5737 and 3849.
ip address add 192.0.2.2/24 dev uplink0
ip -n upstream address add 192.0.2.1/24 dev upstream0
ip route add default via 192.0.2.1
if [ -d /proc/sys/net/ipv6 ]; then
    ip address add 2001:db8::2/64 dev uplink0 nodad
    ip -n upstream address add 2001:db8::1/64 dev upstream0 nodad
    ip netns exec upstream sysctl -q -w net.ipv6.conf.all.forwarding=1
    ip -6 route add default via 2001:db8::1
fi

# Whoever asks the gateway for a name is refused at once; the machine's own name server, out of reach from here, would keep them waiting.
names=$(mktemp)
echo 'nameserver 192.0.2.1' >"$names"
chmod 644 "$names"
mount --bind "$names" /etc/resolv.conf
rm "$names"
exec "$@"
