#!/bin/sh
# Runs in the virtual machine, as root, once: the tests that want control groups version 2 and systemd.
#
# First as root, then as an ordinary user who logged in. What pytest is given comes from the host in /output.
export PYTHONPATH=/kitepy:/site-packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 KITEPY_VM=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin
export QT_QPA_PLATFORM=offscreen PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
python=/usr/bin/python3
arguments=$(cat /output/pytest-arguments)
status=0

# The runtime's and the engine's own tests that say something about control groups, beside those made for this machine.
suite="tests/vm/root tests/root/engine/runtime/test_runtime_cgroups.py \
    tests/api/containers/test_container_resources.py tests/api/containers/test_container_life.py \
    tests/api/containers/test_container_stats.py tests/api/containers/test_container_top.py \
    tests/api/containers/test_userns_remap.py tests/root/engine/runtime/test_runtime_user_namespace.py"

pytest() {
    name=$1
    shift
    # The plugins that these tests need; loading them all takes a while where the processor is emulated.
    "$@" $python -m pytest -p pytest_timeout --timeout 240 --junit-xml="/tmp/$name.xml" $selected
    code=$?
    [ $code -eq 0 ] || status=$code
    cp "/tmp/$name.xml" /output/ 2>/dev/null
}

cd /kitepy || exit 1
echo "guest: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), $($python -V), up for $(cut -d ' ' -f 1 /proc/uptime) s"
modprobe -a overlay bridge veth nf_tables tun 2>/dev/null

eval "set -- $arguments"
case "${1:-}" in
    shell:*) shift; eval "$(printf '%s' "$arguments" | sed "s/^'shell://; s/'\$//; s/^shell://")"; status=$? ;;
    *)
        eval "selected=\"$suite $arguments\""
        case "${1:-}" in tests/*) selected=$arguments ;; esac
        case "$selected" in *tests/vm/user*) ;; *) pytest root ;; esac
        case "${1:-}" in tests/*) ;; *) selected="tests/vm/user $arguments" ;; esac
        case "$selected" in
            *tests/vm/user*)
                pytest user systemd-run --quiet --wait --pipe --collect -p User=tester -p PAMName=login -p WorkingDirectory=/kitepy \
                    -p TasksMax=infinity -E PYTHONPATH -E PYTHONDONTWRITEBYTECODE -E PYTHONUNBUFFERED -E KITEPY_VM -E PATH \
                    -E QT_QPA_PLATFORM -E PYTEST_DISABLE_PLUGIN_AUTOLOAD
                ;;
        esac
        ;;
esac
journalctl --no-pager -o short-monotonic >/output/journal.txt 2>&1
sync
echo "kitepy-vm: end $status"
