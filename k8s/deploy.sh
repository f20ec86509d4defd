#!/bin/sh
# Brings ndt onto the cluster that kubectl points at.
set -eu

usage() {
  cat <<'TEXT'
Usage: k8s/deploy.sh [OVERLAY] [--wait] [--timeout 5m]

  OVERLAY    embedded (when missing), kafka, experiment, or a folder with a kustomization
  --wait     end only when everything runs; fail when it does not within --timeout
  --timeout  how long that may take, for each part: 5m when missing

Run again, it brings changes onto the cluster. Changed configuration takes effect without a restart.
TEXT
}

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
overlay=embedded
wait=no
timeout=5m
while [ $# -gt 0 ]; do
  case $1 in
    --wait) wait=yes ;;
    --timeout)
      [ $# -gt 1 ] || { usage >&2; exit 64; }
      timeout=$2
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 64 ;;
    *) overlay=$1 ;;
  esac
  shift
done

path=$overlay
[ -f "$path/kustomization.yaml" ] || path=$folder/overlays/$overlay
if [ ! -f "$path/kustomization.yaml" ]; then
  echo "deploy.sh: there is no overlay $overlay; k8s/overlays has them all" >&2
  exit 66
fi
command -v kubectl >/dev/null || { echo 'deploy.sh: there is no kubectl on PATH: install it, and point it at your cluster' >&2; exit 69; }

namespaces='ndt ndt-agent'
case $overlay in experiment | */experiment | */experiment/) namespaces="$namespaces ndt-experiment" ;; esac

# The bearer token that the programs' HTTP listeners ask for: made once, kept after that.
for namespace in $namespaces; do
  kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
done
if ! kubectl -n ndt get secret ndt-http >/dev/null 2>&1; then
  token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
else
  token=$(kubectl -n ndt get secret ndt-http -o 'go-template={{.data.token | base64decode}}')
fi
for namespace in $namespaces; do
  # Over standard input: arguments can be read by everyone on this machine.
  kubectl -n "$namespace" get secret ndt-http >/dev/null 2>&1 ||
    printf '%s' "$token" | kubectl -n "$namespace" create secret generic ndt-http --from-file=token=/dev/stdin
done

kubectl apply -k "$path"

if [ "$wait" = yes ]; then
  for namespace in $namespaces; do
    for workload in $(kubectl -n "$namespace" get statefulset,deployment,daemonset -o name); do
      kubectl -n "$namespace" rollout status "$workload" --timeout="$timeout"
    done
  done
  echo 'ndt runs. Its page: kubectl -n ndt port-forward service/aggregator 9480, then http://127.0.0.1:9480/'
fi
