#!/usr/bin/env bash
# A real one-node SLURM on this machine: slurmctld, slurmd, slurmdbd with a private MariaDB, munge. Debian 12 or Ubuntu, root; no systemd,
# no cgroups. `cluster.sh up FOLDER` starts what does not run yet, `cluster.sh down FOLDER` ends by recorded process ids what it started.
# Packages: slurmctld slurmd slurm-client munge slurmdbd mariadb-server
set -euo pipefail
ACTION=$1 RUN=$2
HOST=$(hostname -s)
MARK="# written by DPFT's tests/slurm/cluster.sh"

alive() { [ -s "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
# start NAME COMMAND...: a daemon in its foreground mode, detached; setsid execs, so the recorded id is the daemon's own
start() {
  local name=$1; shift
  setsid "$@" </dev/null >>"$RUN/log/$name.out" 2>&1 &
  echo $! > "$RUN/$name.pid"; disown
}
until_ok() {
  local what=$1 tries=$2; shift 2
  for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  echo "$what did not come up; see $RUN/log" >&2; tail -n 5 "$RUN"/log/* >&2 || true; exit 1
}
stop() {
  alive "$1" || return 0
  local id; id=$(cat "$RUN/$1.pid")
  kill "$id"; for _ in $(seq 100); do kill -0 "$id" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$id" 2>/dev/null || true; rm -f "$RUN/$1.pid"
}
ours() { [ ! -e "$1" ] || grep -q "^$MARK" "$1" || { echo "$1 is somebody else's: left alone" >&2; exit 3; }; }

if [ "$ACTION" = down ]; then
  if alive slurmctld; then
    scancel --state=PENDING --user="$(id -un)" || true; scancel --user="$(id -un)" || true
    for _ in $(seq 100); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
  fi
  for daemon in slurmd slurmctld slurmdbd mariadbd munged; do stop $daemon; done
  for file in slurm.conf slurmdbd.conf cgroup.conf; do ! grep -qs "^$MARK" "/etc/slurm/$file" || rm -f "/etc/slurm/$file"; done
  exit 0
fi

mkdir -p "$RUN"/{log,state,spool} /etc/slurm
for file in slurm.conf slurmdbd.conf cgroup.conf; do ours "/etc/slurm/$file"; done
# keys that moved between versions: unknown ones stop every command, or are ignored in silence
VERSION=$(slurmd -V | awk '{print $2}')
since() { [ "$(printf '%s\n%s\n' "$VERSION" "$1" | sort -V | head -n1)" = "$1" ]; }
if since 23.11; then CGROUP="CgroupPlugin=disabled"; else CGROUP=$'CgroupPlugin=cgroup/v1\nCgroupAutomount=no'; fi
# a preempted job gets its own --signal, submitit's USR2
if since 24.11; then SIGNAL="PreemptParameters=send_user_signal"; else SIGNAL="SlurmctldParameters=preempt_send_user_signal"; fi
printf '%s\n%s\n' "$MARK" "$CGROUP" > /etc/slurm/cgroup.conf
cat > /etc/slurm/slurm.conf <<CONF
$MARK
ClusterName=dpft
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmctldPort=6817
SlurmdPort=6818
StateSaveLocation=$RUN/state
SlurmdSpoolDir=$RUN/spool
SlurmctldPidFile=$RUN/slurmctld.own.pid
SlurmdPidFile=$RUN/slurmd.own.pid
SlurmctldLogFile=$RUN/log/slurmctld.log
SlurmdLogFile=$RUN/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
MpiDefault=none
ReturnToService=2
JobRequeue=1
$SIGNAL
KillWait=10
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5,sched_min_interval=200000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize=1001
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=6819
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP PriorityTier=10 GraceTime=30
PartitionName=urgent Nodes=$HOST MaxTime=INFINITE State=UP PriorityTier=20
CONF

install -d -o munge -g munge -m 0755 /run/munge
install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
if [ ! -s /etc/munge/munge.key ]; then
  (umask 077; head -c 1024 /dev/urandom > /etc/munge/munge.key); chown munge:munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
fi
munge_ok() { munge -n 2>/dev/null | unmunge >/dev/null 2>&1; }
munge_ok || { start munged setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --foreground --num-threads=2; until_ok munged 100 munge_ok; }

sql() { mariadb --no-defaults --socket="$RUN/mysql/s.sock" "$@"; }
if ! alive mariadbd; then
  install -d -o mysql -g mysql -m 0755 "$RUN/mysql"
  [ -d "$RUN/mysql/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$RUN/mysql" --skip-test-db \
    --auth-root-authentication-method=socket > "$RUN/log/mariadb-install.out" 2>&1
  start mariadbd /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$RUN/mysql" --socket="$RUN/mysql/s.sock" \
    --pid-file="$RUN/mysql/own.pid" --bind-address=127.0.0.1 --port=13306 --skip-name-resolve --innodb-buffer-pool-size=64M \
    --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 --performance-schema=OFF --innodb-flush-log-at-trx-commit=0
  until_ok mariadbd 300 sql -e "SELECT 1"
fi
if ! alive slurmdbd; then
  PASSWORD=$(head -c 18 /dev/urandom | base64 | tr -d '/+=')
  sql -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE OR REPLACE USER slurm@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
          GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
  (umask 077; cat > /etc/slurm/slurmdbd.conf <<CONF
$MARK
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=6819
SlurmUser=root
LogFile=$RUN/log/slurmdbd.log
PidFile=$RUN/slurmdbd.own.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=$PASSWORD
StorageLoc=slurm_acct_db
CONF
  )
  start slurmdbd /usr/sbin/slurmdbd -D
  until_ok slurmdbd 300 sacctmgr -n list cluster
fi
# before slurmctld first starts, or it keeps its records for an unknown cluster
sacctmgr -n list cluster format=cluster | grep -qw dpft || sacctmgr -i add cluster dpft >/dev/null
alive slurmctld || { start slurmctld /usr/sbin/slurmctld -D; until_ok slurmctld 150 sh -c 'scontrol ping | grep -q UP'; }
alive slurmd || start slurmd /usr/sbin/slurmd -D
node_ok() { sinfo -h -N -o '%t' | grep -qE '^(idle|mix|alloc)$' || { scontrol update nodename="$HOST" state=resume; false; }; }
until_ok "node $HOST" 300 node_ok
