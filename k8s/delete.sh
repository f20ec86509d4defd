#!/bin/sh
# Takes ndt off the cluster that kubectl points at.
set -eu

usage() {
  cat <<'TEXT'
Usage: k8s/delete.sh [OVERLAY] [--data]

  OVERLAY  embedded (when missing), kafka, experiment, or a folder with a kustomization
  --data   delete the history and all that waits in claimed volumes as well, with the namespaces

Without --data the namespaces, the token and the volume claims stay, and deploy.sh goes on where it was. What the agents buffer is on
the nodes, in /var/lib/ndt-agent, and stays in any case.
TEXT
}

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
overlay=embedded
data=no
for argument in "$@"; do
  case $argument in
    --data) data=yes ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 64 ;;
    *) overlay=$argument ;;
  esac
done

path=$overlay
[ -f "$path/kustomization.yaml" ] || path=$folder/overlays/$overlay
if [ ! -f "$path/kustomization.yaml" ]; then
  echo "delete.sh: there is no overlay $overlay; k8s/overlays has them all" >&2
  exit 66
fi
command -v kubectl >/dev/null || { echo 'delete.sh: there is no kubectl on PATH: install it, and point it at your cluster' >&2; exit 69; }

# By label, not by `delete -k`: that would take the namespaces along, and with them the volume claims.
namespaces='ndt-experiment ndt-agent ndt'
case $overlay in experiment | */experiment | */experiment/) ;; *) namespaces='ndt-agent ndt' ;; esac
for namespace in $namespaces; do
  kubectl -n "$namespace" delete daemonset,deployment,statefulset,service,poddisruptionbudget,networkpolicy,configmap,serviceaccount \
    --selector app.kubernetes.io/part-of=ndt --ignore-not-found --wait=true
  if [ "$data" = yes ]; then kubectl delete namespace "$namespace" --ignore-not-found --wait=true; fi
done
