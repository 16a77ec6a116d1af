{{/*
Values that mean something to Istio and cannot mean the same here: all of them at
once, each with the reason and what to do. What has no meaning at all is refused
by values.schema.json.
*/}}
{{- define "sluice.validate" -}}
{{- $cni := include "sluice.cni" . | fromYaml -}}
{{- $ambient := $cni.ambient | default dict -}}
{{- $wrong := list -}}
{{- $mode := $ambient.redirectMode | default "iptables" -}}
{{- if has $mode (list "ebpf" "inpod" "auto") -}}
{{- $wrong = append $wrong (printf "cni.ambient.redirectMode=%s: this mode is not built yet; set it to iptables" $mode) -}}
{{- else if ne $mode "iptables" -}}
{{- $wrong = append $wrong (printf "cni.ambient.redirectMode=%s: there is no such mode; set it to iptables" $mode) -}}
{{- end -}}
{{- if and (hasKey $ambient "enabled") (not $ambient.enabled) -}}
{{- $wrong = append $wrong "cni.ambient.enabled=false: capturing ambient pods is all that Sluice does; leave it out, and label no namespace to capture nothing" -}}
{{- end -}}
{{- if $ambient.dnsCapture -}}
{{- $wrong = append $wrong "cni.ambient.dnsCapture=true: capture of DNS is not built yet; set it to false" -}}
{{- end -}}
{{- if and (hasKey $ambient "ipv6") (not $ambient.ipv6) -}}
{{- $wrong = append $wrong "cni.ambient.ipv6=false: both families are always captured, or IPv6 would leave in the clear; leave it out" -}}
{{- end -}}
{{- if and (hasKey $ambient "reconcileIptablesOnStartup") (not $ambient.reconcileIptablesOnStartup) -}}
{{- $wrong = append $wrong "cni.ambient.reconcileIptablesOnStartup=false: rules are always compared with what is wanted, and mended; leave it out" -}}
{{- end -}}
{{- if and (hasKey $ambient "shareHostNetworkNamespace") (not $ambient.shareHostNetworkNamespace) -}}
{{- $wrong = append $wrong "cni.ambient.shareHostNetworkNamespace=false: the agent works in the node's network namespace; leave it out" -}}
{{- end -}}
{{- if ($cni.repair | default dict).enabled -}}
{{- $wrong = append $wrong "cni.repair.enabled=true: repair of sidecar pods is not built; set it to false, and keep istio-init for pods with sidecars" -}}
{{- end -}}
{{- if and (hasKey $cni "chained") (not $cni.chained) -}}
{{- $wrong = append $wrong "cni.chained=false: a plugin that Multus calls by itself is not told of the pod's link and addresses, and only for pods that ask for it; leave it out: Sluice's own list is the primary network's with the shim last, and on OpenShift (global.platform=openshift) it is Multus' own with the shim last, which needs no NetworkAttachmentDefinition" -}}
{{- end -}}
{{- if eq ($cni.provider | default "default") "multus" -}}
{{- $wrong = append $wrong "cni.provider=multus: a plugin of a NetworkAttachmentDefinition is not told of the pod's link and addresses; leave it out (see cni.chained)" -}}
{{- end -}}
{{- if $cni.psp_cluster_role -}}
{{- $wrong = append $wrong (printf "cni.psp_cluster_role=%s: Kubernetes has no PodSecurityPolicy since 1.25; leave it out, and label the namespace pod-security.kubernetes.io/enforce=privileged" $cni.psp_cluster_role) -}}
{{- end -}}
{{- if and (eq (.Values.global.platform | default "") "openshift") (hasPrefix "/etc/cni/multus" ($cni.cniConfDir | default "")) -}}
{{- $wrong = append $wrong (printf "cni.cniConfDir=%s: only plugins that Multus calls by name are looked for there; leave it out" $cni.cniConfDir) -}}
{{- end -}}
{{- $paths := include "sluice.paths" . | fromYaml -}}
{{- if ne (base $paths.name) $paths.name -}}
{{- $wrong = append $wrong (printf "cni.istioOwnedCNIConfigFileName=%s: a name, not a path" $paths.name) -}}
{{- end -}}
{{- if and $paths.primary (eq $paths.primary $paths.name) -}}
{{- $wrong = append $wrong (printf "cni.cniConfFileName=%s: this is the name of Sluice's own list (cni.istioOwnedCNIConfigFileName); name the primary network's" $paths.primary) -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nSluice cannot be installed with these values:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
