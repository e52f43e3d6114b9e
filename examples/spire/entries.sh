#!/bin/sh
# Registration entries: which workload gets which SPIFFE ID. Run where spire-server runs, or through
#   kubectl exec -n spire spire-server-0 -c spire-server -i -- sh -s < entries.sh
set -eu

# The agents of this cluster, attested by their projected service account tokens.
spire-server entry create -node -spiffeID spiffe://pipeline.example/agents -selector k8s_psat:cluster:production

# The stage: only the container `portcullis` of its Pod gets the identity, not the app beside it.
spire-server entry create -parentID spiffe://pipeline.example/agents -spiffeID spiffe://pipeline.example/ns/etl/sa/transform -selector k8s:ns:etl -selector k8s:sa:transform -selector k8s:container-name:portcullis -x509SVIDTTL 3600

# The store takes partners too: its SVID comes with the bundle of their trust domain. Before that:
#   spire-server bundle set -id spiffe://partner.example -format spiffe -path partner.json
spire-server entry create -parentID spiffe://pipeline.example/agents -spiffeID spiffe://pipeline.example/ns/data/sa/lake -selector k8s:ns:data -selector k8s:sa:lake -selector k8s:container-name:portcullis -x509SVIDTTL 3600 -hint internal -federatesWith spiffe://partner.example

# A machine without Kubernetes: the sidecar runs as a user of its own (`useradd --system --uid 2102 portcullis`). The parent is the agent of
# that machine, or an alias of it: `spire-server agent list`.
spire-server entry create -parentID spiffe://pipeline.example/hosts/warehouse-1 -spiffeID spiffe://pipeline.example/ns/data/sa/warehouse -selector unix:uid:2102 -x509SVIDTTL 3600
