#!/bin/sh
# Builds what `make test-vm` boots: a Debian kernel with its initramfs, and a root file system with systemd and what the engine needs.
#
#   tests/vm/build_image.sh            prints the directory of the finished image; builds it when this script has changed
#
#   KITEPY_VM_CACHE=…    where images are kept (default: ~/.cache/kitepy/vm)
#   KITEPY_VM_SUITE=…    the Debian release (default: bookworm; its Python must be the one that .venv was made for)
#
# Root needs nothing else; an ordinary user needs user namespaces and ids in /etc/subuid, as mmdebstrap(1) tells.
set -eu

cache=${KITEPY_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kitepy/vm}
suite=${KITEPY_VM_SUITE:-bookworm}
here=$(cd "$(dirname "$0")" && pwd)
key=$({ echo "$suite" && cat "$0" "$here/guest.service"; } | sha256sum | cut -c 1-16)
image=$cache/$suite-$key

if [ -e "$image/complete" ]; then
    printf '%s\n' "$image"
    exit 0
fi
for program in mmdebstrap mkfs.ext4; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || { echo "kitepy: $program is missing: packaging/install.sh vm" >&2; exit 1; }
done

# kernel, init, user managers · the engine's needs · what tests look with
packages=linux-image-amd64,initramfs-tools,zstd,udev,kmod,systemd-sysv,libpam-systemd,dbus,dbus-user-session
packages=$packages,python3,libnftables1,libseccomp2,uidmap,passt,slirp4netns,fuse-overlayfs,busybox-static,iproute2
packages=$packages,nftables,netbase,procps,strace,apparmor

umask 022
mkdir -p "$cache"
work=$(mktemp -d "$cache/.building-XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
# The files below are made by root of mmdebstrap's user namespace, who is somebody else here.
chmod 0777 "$work"
echo "kitepy: building the virtual machine's image ($suite): some 150 MB are fetched, once" >&2

# shellcheck disable=SC2016  # "$1" is the hook's
TMPDIR=$work WORK=$work HERE=$here PATH=$PATH:/usr/sbin:/sbin mmdebstrap --quiet --variant=minbase --format=null --include="$packages" \
    --aptopt='Acquire::Retries "3"' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
    --essential-hook='
        mkdir -p "$1/etc/initramfs-tools/conf.d"
        printf "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n" >"$1/etc/initramfs-tools/conf.d/kitepy"
        printf "%s\n" virtio_pci virtio_blk virtio_console ext4 9p 9pnet_virtio >"$1/etc/initramfs-tools/modules"' \
    --customize-hook='
        set -e
        echo kitepy-vm >"$1/etc/hostname"
        printf "127.0.0.1 localhost kitepy-vm\n::1 localhost\n" >"$1/etc/hosts"
        echo "/dev/vda / ext4 rw,noatime 0 0" >"$1/etc/fstab"
        : >"$1/etc/machine-id"
        chroot "$1" passwd --quiet --delete root
        chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 tester
        mkdir -p "$1/var/lib/systemd/linger" "$1/etc/modules-load.d" "$1/kitepy" "$1/site-packages" "$1/output"
        touch "$1/var/lib/systemd/linger/tester"
        printf "%s\n" overlay bridge veth nf_tables tun bfq >"$1/etc/modules-load.d/kitepy.conf"
        # Nothing of it is of use here, and each unit costs time in an emulated machine.
        for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
            systemd-tmpfiles-clean.timer e2scrub_reap.service getty@tty1.service serial-getty@ttyS0.service \
            systemd-timesyncd.service systemd-pstore.service man-db.timer; do
            ln -sf /dev/null "$1/etc/systemd/system/$unit"
        done
        printf "%s\n" "[Journal]" "Storage=volatile" >"$1/etc/systemd/journald.conf"
        cp "$HERE/guest.service" "$1/etc/systemd/system/kitepy-tests.service"
        chroot "$1" systemctl enable --quiet kitepy-tests.service' \
    --customize-hook='
        set -e
        cp "$1"/boot/vmlinuz-* "$WORK/vmlinuz"
        cp "$1"/boot/initrd.img-* "$WORK/initrd"
        rm -rf "$1"/boot/* "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*
        mkdir "$WORK/tree"
        mount --bind "$1" "$WORK/tree"  # without the /proc and /sys that are mounted below
        mkfs.ext4 -q -L kitepy -E root_owner=0:0 -O ^has_journal -m 0 -d "$WORK/tree" "$WORK/root.ext4" 3G
        umount "$WORK/tree"
        chmod 0644 "$WORK"/vmlinuz "$WORK"/initrd "$WORK"/root.ext4' \
    "$suite" /dev/null >&2

mkdir "$work/image"
for name in vmlinuz initrd root.ext4; do
    cp --sparse=always "$work/$name" "$work/image/$name"
done
touch "$work/image/complete"
chmod 0755 "$work/image"
mv -T "$work/image" "$image" 2>/dev/null || [ -e "$image/complete" ]  # another one was faster
printf '%s\n' "$image"
