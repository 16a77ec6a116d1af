{{/* What is set in Istio's words: under cni, and at the top level. */}}
{{- define "sluice.cni" -}}
{{- $names := list "cniBinDir" "cniConfDir" "cniConfFileName" "cniNetnsDir" "istioOwnedCNIConfig" "istioOwnedCNIConfigFileName" "chained" "provider" "excludeNamespaces" "logLevel" "privileged" "psp_cluster_role" "ambient" "repair" -}}
{{- $cni := deepCopy .Values.cni -}}
{{- range $name := $names -}}
{{- if hasKey $.Values $name -}}
{{- $cni = mustMergeOverwrite $cni (dict $name (index $.Values $name)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $cni -}}
{{- end -}}

{{/*
Paths, by platform unless they are set. What is neither is discovered, if asked
for: then "bin" or "conf" is empty, and the node's root is mounted.
*/}}
{{- define "sluice.paths" -}}
{{- $cni := include "sluice.cni" . | fromYaml -}}
{{- $platforms := dict
  "gke" (dict "bin" "/home/kubernetes/bin")
  "k3s" (dict "bin" "/var/lib/rancher/k3s/data/cni" "conf" "/var/lib/rancher/k3s/agent/etc/cni/net.d")
  "k3d" (dict "bin" "/bin" "conf" "/var/lib/rancher/k3s/agent/etc/cni/net.d")
  "microk8s" (dict "bin" "/var/snap/microk8s/current/opt/cni/bin" "conf" "/var/snap/microk8s/current/args/cni-network")
  "minikube" (dict "netns" "/var/run/docker/netns")
  "openshift" (dict "bin" "/var/lib/cni/bin" "conf" "/etc/kubernetes/cni/net.d" "name" "00-00-sluice.conflist")
-}}
{{- $own := get $platforms (.Values.global.platform | default "") | default dict -}}
{{- $bin := $cni.cniBinDir | default (get $own "bin") -}}
{{- $conf := $cni.cniConfDir | default (get $own "conf") -}}
{{- $discover := false -}}
{{- if and $cni.discover (not (and $bin $conf)) }}{{ $discover = true }}{{ end }}
discover: {{ $discover }}
bin: {{ $bin | default (ternary "" "/opt/cni/bin" $discover) | quote }}
conf: {{ $conf | default (ternary "" "/etc/cni/net.d" $discover) | quote }}
mode: {{ ternary "chained" "own" (and (hasKey $cni "istioOwnedCNIConfig") (not $cni.istioOwnedCNIConfig)) }}
primary: {{ $cni.cniConfFileName | default "" | quote }}
netns: {{ $cni.cniNetnsDir | default (get $own "netns") | default "/var/run/netns" | quote }}
name: {{ $cni.istioOwnedCNIConfigFileName | default (get $own "name") | default "02-sluice.conflist" | quote }}
{{- end -}}

{{/* Where nothing is captured; ours and the proxy's namespace always. */}}
{{- define "sluice.excludedNamespaces" -}}
{{- $cni := include "sluice.cni" . | fromYaml -}}
{{- concat ($cni.excludeNamespaces | default list) (list .Release.Namespace .Values.proxy.namespace) | uniq | join "," -}}
{{- end -}}

{{/* Istio's levels in the words of the filter. */}}
{{- define "sluice.logFilter" -}}
{{- $level := (include "sluice.cni" . | fromYaml).logLevel | default "info" -}}
{{- if eq $level "none" }}off{{ else }}{{ $level }}{{ end -}}
{{- end -}}

{{- define "sluice.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- define "sluice.labels" -}}
app.kubernetes.io/name: {{ .name }}
{{ include "sluice.commonLabels" .root }}
{{- end -}}

{{- define "sluice.commonLabels" -}}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Scrape annotations and those of the values; nothing of ours is captured. */}}
{{- define "sluice.podAnnotations" -}}
{{- $all := dict "ambient.istio.io/redirection" "disabled" -}}
{{- if .root.Values.metrics.scrapeAnnotations -}}
{{- $all = merge $all (dict "prometheus.io/scrape" "true" "prometheus.io/path" "/metrics" "prometheus.io/port" (toString .port)) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $all (deepCopy .more)) -}}
{{- end -}}

{{- define "sluice.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
