#!/usr/bin/env bash
# What a node of a cluster does; cluster.yaml and the files beside this one call it on every node.
#
#   node.sh install STORAGE   install the project from its lock files, and set up the shells of the node
#   node.sh head              start MLflow, then Ray's head
#   node.sh worker            start a Ray node of the head at $RAY_HEAD_IP
set -euo pipefail
cd "$(dirname "$0")/.."
ENVIRONMENT=$HOME/.farm_environment

install_farm() {
  local storage=$1
  case $storage in
    *CHANGE-ME*) echo "storage is $storage: set the storage at the top of the cluster file" >&2; exit 2 ;;
    s3://?* | gs://?* | /?*) ;;
    *) echo "storage is $storage: expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder on NFS" >&2; exit 2 ;;
  esac
  [ -s "$HOME/.ray/auth_token" ] || { echo "no ~/.ray/auth_token: run ray get-auth-token --generate before ray up" >&2; exit 2; }
  chmod 600 "$HOME/.ray/auth_token"
  make venv PYTHON="${PYTHON:-python3}"
  .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r clusters/requirements.lock
  cat >"$ENVIRONMENT" <<EOF
export PATH=$PWD/.venv/bin:\$PATH
export FARM_STORAGE=$storage
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
EOF
  # The first line, since a usual .bashrc ends early where there is no terminal.
  local line=". $ENVIRONMENT"
  touch "$HOME/.bashrc"
  grep -qxF "$line" "$HOME/.bashrc" || sed -i "1i $line" "$HOME/.bashrc"
  [ -s "$HOME/.bashrc" ] || echo "$line" >"$HOME/.bashrc"
}

start_head() {
  . "$ENVIRONMENT"
  ray stop
  if ! healthy; then
    # On loopback alone: it is reached by port forwarding, and only the driver, here, writes to it.
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid nohup mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
      --backend-store-uri "sqlite:///$HOME/mlflow.db" --artifacts-destination "$HOME/mlartifacts" \
      >"$HOME/mlflow.log" 2>&1 </dev/null &
  fi
  # What runs on the head by ray exec or ray submit joins the cluster, as what is submitted as a job does.
  grep -q RAY_ADDRESS "$ENVIRONMENT" || echo 'export RAY_ADDRESS=${RAY_ADDRESS:-auto}' >>"$ENVIRONMENT"
  unset RAY_ADDRESS
  ulimit -n 65536 || true
  ray start --head --port=6379 --dashboard-host=127.0.0.1 --autoscaling-config="$HOME/ray_bootstrap_config.yaml"
  for _ in $(seq 300); do healthy && return; sleep 1; done
  tail "$HOME/mlflow.log" >&2
  exit 1
}

healthy() { curl -sf -o /dev/null http://127.0.0.1:5000/health; }

start_worker() {
  . "$ENVIRONMENT"
  ray stop
  ulimit -n 65536 || true
  ray start --address="$RAY_HEAD_IP:6379"
}

case ${1:-} in
  install) install_farm "$2" ;;
  head) start_head ;;
  worker) start_worker ;;
  *) sed -n '2,6p' "$0"; exit 2 ;;
esac
