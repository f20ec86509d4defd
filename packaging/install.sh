#!/bin/sh
# Installs ndt-agent or ndt-aggregator on a machine without dpkg, and removes it: binary, configuration, user, and a service for
# systemd, OpenRC or procd. Everything it needs is in its own folder. Run as root.
set -eu
# Others go through the folders that are made here, whatever root's own umask is.
umask 022

PACKAGE=@PACKAGE@
PROGRAM=@PROGRAM@
LINKS='@LINKS@'

usage() {
  cat <<TEXT
Usage: ./install.sh [OPTIONS]

Installs $PACKAGE. Run again, it upgrades: configuration and buffer stay, and what runs is restarted.

  --uninstall    remove it; configuration, data and user stay
  --purge        remove it with configuration, data and user
  --prefix DIR   where the program goes: DIR/bin; when missing, where it is, or /usr/local
  --init NAME    systemd, openrc, procd or none; found out when missing
  --root DIR     install into the file system of another machine that is mounted at DIR
TEXT
}

say() { echo "install.sh: $*"; }
fail() {
  say "$1" >&2
  exit "${2:-1}"
}
value() { [ $# -gt 1 ] || { usage >&2; exit 64; }; echo "$2"; }

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
action=install
prefix=
init=
root=
while [ $# -gt 0 ]; do
  case $1 in
    --uninstall) action=uninstall ;;
    --purge) action=purge ;;
    --prefix) prefix=$(value "$@"); shift ;;
    --init) init=$(value "$@"); shift ;;
    --root) root=$(value "$@"); root=${root%/}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done
# An upgrade and a removal find the program where the first installation put it.
if [ -z "$prefix" ]; then
  for file in "$root/etc/systemd/system/$PACKAGE.service" "$root/etc/init.d/$PACKAGE"; do
    [ -f "$file" ] || continue
    prefix=$(sed -n "s#^.*[=\" ]\(/[A-Za-z0-9/._-]*\)/bin/${PACKAGE}[\" ].*#\1#p" "$file" | head -n 1)
    [ -z "$prefix" ] || break
  done
  prefix=${prefix:-/usr/local}
fi
case $prefix in
  /*[!A-Za-z0-9/._-]*) fail "--prefix $prefix: use letters, digits and /._- alone" 64 ;;
  /*) ;;
  *) fail "--prefix $prefix: expected a path that begins with /" 64 ;;
esac

if [ -z "$init" ]; then
  if [ -d "$root/run/systemd/system" ] || { [ -n "$root" ] && [ -d "$root/usr/lib/systemd/system" ]; }; then init=systemd
  elif [ -x "$root/sbin/openrc-run" ] || [ -x "$root/usr/sbin/openrc-run" ]; then init=openrc
  elif [ -x "$root/sbin/procd" ]; then init=procd
  else init=none
  fi
fi
case $init in systemd | openrc | procd | none) ;; *) fail "--init $init: expected systemd, openrc, procd or none" 64 ;; esac
# Another machine's links may point into this one's file system.
if [ -n "$root" ]; then
  real=$(readlink -f "$root")
  for folder in /etc/ndt "/var/lib/$PACKAGE" "$prefix/bin"; do
    case $(readlink -f "$root$(dirname "$folder")" || echo "$real/") in
      "$real" | "$real"/*) ;;
      *) fail "$root$folder leads out of $root by a link: mount that machine's file system so that its links hold, or run this there" 64 ;;
    esac
  done
fi
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then fail 'needs root, for the user and the service it makes' 77; fi

bin=$prefix/bin
unit=/etc/systemd/system/$PACKAGE.service
script=/etc/init.d/$PACKAGE

# Nothing of the machine that runs this is touched where another one's file system is installed into.
live() { [ -z "$root" ]; }

known() { cut -d: -f1 "$root/etc/$1" 2>/dev/null | grep -qx "$PACKAGE"; }

make_user() {
  if known passwd; then return 0; fi
  if ! live; then
    say "make the user $PACKAGE on that machine before it starts: install.sh could not, because it is not running"
  elif command -v useradd >/dev/null; then
    useradd --system --user-group --home-dir "/var/lib/$PACKAGE" --no-create-home --shell /bin/false "$PACKAGE"
  elif command -v adduser >/dev/null; then
    # BusyBox's.
    addgroup -S "$PACKAGE" 2>/dev/null || true
    adduser -S -D -H -h "/var/lib/$PACKAGE" -s /bin/false -G "$PACKAGE" "$PACKAGE"
  else
    # OpenWrt's base system has neither.
    id=900
    while cut -d: -f3 /etc/passwd /etc/group | grep -qx "$id"; do id=$((id + 1)); done
    for file in passwd group; do
      # A last line without its end would take ours into itself.
      if [ -n "$(tail -c 1 "/etc/$file")" ]; then echo >>"/etc/$file"; fi
    done
    # Of an installation that was cut off.
    if known group; then id=$(sed -n "s/^$PACKAGE:[^:]*:\([0-9]*\):.*/\1/p" /etc/group | head -n 1)
    else echo "$PACKAGE:x:$id:" >>/etc/group
    fi
    echo "$PACKAGE:x:$id:$id:ndt:/var/lib/$PACKAGE:/bin/false" >>/etc/passwd
  fi
}

remove_user() {
  if ! known passwd || ! live; then return 0; fi
  if command -v userdel >/dev/null; then
    userdel "$PACKAGE" || say "the user $PACKAGE stays, a process of its still runs: userdel $PACKAGE" >&2
    if known group && ! known passwd; then groupdel "$PACKAGE"; fi
  else
    for file in passwd group shadow; do
      [ -f "/etc/$file" ] || continue
      # With its mode and owner, and whole at every moment.
      cp -p "/etc/$file" "/etc/$file.ndt"
      sed "/^$PACKAGE:/d" "/etc/$file" >"/etc/$file.ndt"
      mv -f "/etc/$file.ndt" "/etc/$file"
    done
  fi
}

# put FILE PATH MODE: whole or not at all, also over a program that runs
put() {
  mkdir -p "$root$(dirname -- "$2")"
  half=$root$2.new
  cp "$here/$1" "$half"
  chmod "$3" "$half"
  # Where it lies, for what was unpacked to may not allow execution. Where no libc fits, it is better to know before anything has changed.
  if live && [ "$1" = "$PACKAGE" ]; then
    said=$("$half" --version 2>&1) ||
      fail "this $PACKAGE does not run here ($said): it needs Linux on the archive's architecture, with glibc 2.34 or newer" 69
  fi
  mv -f "$half" "$root$2"
  half=
}
# A full disk, or a Ctrl-C, leaves no half of a program behind.
half=
trap '[ -z "$half" ] || rm -f "$half"' EXIT
trap 'exit 130' HUP INT TERM

# fill PATH: where the program is
fill() {
  sed "s|/usr/bin/$PACKAGE|$bin/$PACKAGE|g" "$root$1" >"$root$1.new"
  cat "$root$1.new" >"$root$1"
  rm -f "$root$1.new"
}

install_service() {
  case $init in
    systemd)
      put "$PACKAGE.service" "$unit" 0644
      fill "$unit"
      if live; then
        systemctl daemon-reload
        systemctl try-restart "$PACKAGE.service" || why="journalctl -u $PACKAGE says why"
      fi
      next="systemctl enable --now $PACKAGE"
      ;;
    openrc | procd)
      put "$PACKAGE.$init" "$script" 0755
      fill "$script"
      if live && [ "$action" = install ] && running; then "$script" restart || why="$bin/$PACKAGE run --check --config /etc/ndt/$PROGRAM.json says why"; fi
      next="rc-update add $PACKAGE default && rc-service $PACKAGE start"
      if [ "$init" = procd ]; then next="$script enable && $script start"; fi
      ;;
    none) next="$bin/$PACKAGE run --config /etc/ndt/$PROGRAM.json, as the user $PACKAGE" ;;
  esac
}

running() {
  case $init in
    openrc) rc-service "$PACKAGE" status >/dev/null 2>&1 ;;
    procd) "$script" running >/dev/null 2>&1 ;;
  esac
}

remove_service() {
  if live; then
    case $init in
      systemd) if [ -e "$unit" ]; then systemctl --quiet disable --now "$PACKAGE.service"; fi ;;
      openrc)
        if [ -e "$script" ]; then
          rc-service "$PACKAGE" stop || true
          rc-update del "$PACKAGE" >/dev/null 2>&1 || true
        fi
        ;;
      procd)
        if [ -e "$script" ]; then
          "$script" stop || true
          "$script" disable || true
        fi
        ;;
    esac
  fi
  rm -f "$root$unit" "$root$script" "$root/etc/systemd/system/multi-user.target.wants/$PACKAGE.service"
  if live && [ "$init" = systemd ]; then systemctl daemon-reload; fi
}

if [ "$action" = install ]; then
  [ -f "$here/$PACKAGE" ] || fail "there is no $PACKAGE beside install.sh: unpack the whole archive, and run it there" 66
  if live && [ "$init" = systemd ]; then
    release=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${release:-0}" -ge 250 ] || fail "systemd $release is too old for the unit's credentials: it needs 250 or newer (--init none leaves the unit out)" 69
  fi
  put "$PACKAGE" "$bin/$PACKAGE" 0755
  for link in $LINKS; do ln -sf "$PACKAGE" "$root$bin/$link"; done
  mkdir -p "$root/etc/ndt/credentials/$PROGRAM"
  chmod 0700 "$root/etc/ndt/credentials/$PROGRAM"
  if [ -e "$root/etc/ndt/$PROGRAM.json" ]; then say "/etc/ndt/$PROGRAM.json stays as it is"
  else put "$PROGRAM.json" "/etc/ndt/$PROGRAM.json" 0644
  fi
  make_user
  why=
  install_service
  case $(readlink -f "$root/var/lib") in
    "$root"/tmp/* | /tmp/*) say "/var/lib is in memory here: set data_dir in /etc/ndt/$PROGRAM.json to a folder of $PACKAGE on flash or a disk, or a reboot loses what waits" ;;
  esac
  [ -z "$why" ] || fail "$PACKAGE is installed, and does not start with the configuration and data that were there: $why"
  say "$PACKAGE is installed. Say in /etc/ndt/$PROGRAM.json what it is to do, then: $next"
  exit 0
fi

remove_service
rm -f "$root$bin/$PACKAGE"
for link in $LINKS; do
  if [ -L "$root$bin/$link" ]; then rm -f "$root$bin/$link"; fi
done
if [ "$action" = purge ]; then
  # A disk of its own that is mounted there stays mounted, and empty.
  rm -rf "$root/var/lib/$PACKAGE" 2>/dev/null || true
  rm -rf "$root/etc/ndt/credentials/$PROGRAM" "$root/etc/ndt/$PROGRAM.json" "$root$unit.d" "$root/var/log/$PACKAGE.log"
  rmdir "$root/etc/ndt/credentials" "$root/etc/ndt" 2>/dev/null || true
  remove_user
  say "$PACKAGE is gone, with its configuration and data"
else
  say "$PACKAGE is removed; its configuration is in /etc/ndt, its data in /var/lib/$PACKAGE (--purge removes them)"
fi
