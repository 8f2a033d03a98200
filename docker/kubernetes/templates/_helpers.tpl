{{- define "tuwen.name" -}}
{{- if contains "tuwen" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-tuwen" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tuwen.selector" -}}
app.kubernetes.io/name: tuwen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "tuwen.labels" -}}
app.kubernetes.io/name: tuwen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tuwen.image" -}}
{{- with .Values.image }}{{ include "tuwen.fromRegistry" (list $ .repository) }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- /* The name of an image, after the registry if the name has no slash. Takes the root and the name. */ -}}
{{- define "tuwen.fromRegistry" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- with $root.Values.image.registry }}{{ if not (contains "/" $name) }}{{ . }}/{{ end }}{{ end }}{{ $name }}
{{- end }}

{{- /* The models as JSON: `models` may be one model or a list, and every field of a model has its default here. */ -}}
{{- define "tuwen.models" -}}
{{- $given := .Values.models }}
{{- if kindIs "map" $given }}{{ $given = list $given }}{{ end }}
{{- $found := list }}
{{- range $given }}
{{- $default := dict "name" "" "source" "image" "fingerprint" "" "loaded" true "volume" (dict "claim" "" "path" "") "oci" (dict "reference" "" "path" "" "pullPolicy" "IfNotPresent") "download" (dict "url" "" "sha256" "" "image" "curlimages/curl:8.17.0" "headersSecret" "" "timeoutSeconds" 3600 "storage" "8Gi") }}
{{- $model := mergeOverwrite $default (deepCopy .) }}
{{- $several := gt (len $given) 1 }}
{{- $_ := set $model "folder" (ternary (printf "/models/%s" $model.name) "/models" $several) }}
{{- $_ := set $model "suffix" (ternary (printf "-%s" $model.name) "" $several) }}
{{- $_ := set $model "path" (ternary $model.volume.path (ternary $model.oci.path "" (eq $model.source "oci")) (eq $model.source "volume")) }}
{{- $found = append $found $model }}
{{- end }}
{{- dict "models" $found | toJson }}
{{- end }}

{{- /* The arguments that load the models at the start. Triton loads the steps of an ensemble with it. */ -}}
{{- define "tuwen.modelControl" -}}
- --model-control-mode={{ .Values.server.modelControl }}
{{- if eq .Values.server.modelControl "explicit" }}
{{- $all := true }}
{{- range (include "tuwen.models" . | fromJson).models }}{{ if not .loaded }}{{ $all = false }}{{ end }}{{ end }}
{{- if $all }}
- --load-model=*
{{- else }}
{{- range (include "tuwen.models" . | fromJson).models }}
{{- if .loaded }}
{{- $prefix := ternary (printf "%s_" .name) "" (ne .name "") }}
{{- range list "image_embedding" "pixel_embedding" "text_embedding" }}
- --load-model={{ $prefix }}{{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The mount of one model of `tuwen.models`. */ -}}
{{- define "tuwen.modelMount" -}}
- name: models{{ .suffix }}
  mountPath: {{ .folder }}
  readOnly: true
  {{- with .path }}
  subPath: {{ . }}
  {{- end }}
{{- end }}

{{- define "tuwen.downloadSeconds" -}}
{{- $seconds := 0 }}
{{- range (include "tuwen.models" . | fromJson).models }}{{ if eq .source "download" }}{{ $seconds = add $seconds (int .download.timeoutSeconds) }}{{ end }}{{ end }}
{{- $seconds }}
{{- end }}

{{- define "tuwen.hasInitContainers" -}}
{{- $found := .Values.gpu.enabled }}
{{- range (include "tuwen.models" . | fromJson).models }}{{ if or .fingerprint (eq .source "download") }}{{ $found = true }}{{ end }}{{ end }}
{{- if $found }}true{{ end }}
{{- end }}

{{- define "tuwen.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tuwen.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "tuwen.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "tuwen.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.securityContext }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- $value := get $.Values.securityContext $key }}
{{- if ne (toString $value) "<nil>" }}
{{ $key }}: {{ $value | int64 }}
{{- end }}
{{- end }}
{{- with omit . "runAsUser" "runAsGroup" "fsGroup" "runAsNonRoot" "seccompProfile" }}
{{ toYaml . }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* A quantity of memory in MiB. */ -}}
{{- define "tuwen.mebibytes" -}}
{{- $text := toString . }}
{{- $number := regexFind "^[0-9.]+" $text | float64 }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- $factors := dict "" (divf 1.0 1048576) "k" (divf 1000.0 1048576) "Ki" (divf 1.0 1024) "M" (divf 1000000.0 1048576) "Mi" 1.0 "G" (divf 1000000000.0 1048576) "Gi" 1024.0 "T" (divf 1000000000000.0 1048576) "Ti" 1048576.0 }}
{{- mulf $number (get $factors $unit) | floor | int64 }}
{{- end }}

{{- /* Refuse values that contradict each other, which a schema of single values cannot check. */ -}}
{{- define "tuwen.check" -}}
{{- $models := (include "tuwen.models" . | fromJson).models }}
{{- $names := list }}
{{- $loaded := false }}
{{- range $models }}
{{- if and (gt (len $models) 1) (not .name) }}
{{- fail "models: each of several models needs a name, the one that `tuwen build --name` gave it" }}
{{- end }}
{{- if has .name $names }}
{{- fail (printf "models: two models have the name %q" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- if .loaded }}{{ $loaded = true }}{{ else if ne $.Values.server.modelControl "explicit" }}
{{- fail (printf "models: the model %q has loaded: false, which takes server.modelControl: explicit" .name) }}
{{- end }}
{{- end }}
{{- if not $loaded }}
{{- fail "models: expected at least one model with loaded: true, got none; a pod without a model would be ready" }}
{{- end }}
{{- with .Values }}
{{- if and (ne .autoscaling.engine "none") (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas (%v) is above autoscaling.maxReplicas (%v)" .autoscaling.minReplicas .autoscaling.maxReplicas) }}
{{- end }}
{{- if and (ne .autoscaling.engine "keda") (lt (int .autoscaling.minReplicas) 1) }}
{{- fail "autoscaling.minReplicas: 0 takes autoscaling.engine: keda" }}
{{- end }}
{{- if and (lt (int .autoscaling.minReplicas) 1) (not (and .envoy.enabled .monitoring.serviceMonitor)) }}
{{- fail "autoscaling.minReplicas: 0 takes envoy.enabled and monitoring.serviceMonitor: without a pod, only Envoy's metrics show that somebody calls" }}
{{- end }}
{{- if and (has (toString .rollout.maxSurge) (list "0" "0%")) (has (toString .rollout.maxUnavailable) (list "0" "0%")) }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0: no pod could ever be replaced" }}
{{- end }}
{{- if ge (int64 .server.sharedMemoryMiB) (int64 (include "tuwen.mebibytes" .resources.limits.memory)) }}
{{- fail (printf "server.sharedMemoryMiB (%v) counts as memory of the pod: resources.limits.memory (%v) must be larger" .server.sharedMemoryMiB .resources.limits.memory) }}
{{- end }}
{{- if and .envoy.apiKeys .envoy.jwt.issuer }}
{{- fail "envoy.apiKeys and envoy.jwt.issuer exclude each other" }}
{{- end }}
{{- if and .networkPolicy.enabled (not .networkPolicy.egress) }}
{{- $downloads := false }}
{{- range (include "tuwen.models" $ | fromJson).models }}{{ if eq .source "download" }}{{ $downloads = true }}{{ end }}{{ end }}
{{- if or .tracing.enabled $downloads (and .envoy.enabled .envoy.jwt.jwksUrl) }}
{{- fail "networkPolicy.egress must name where models.download, tracing and envoy.jwt.jwksUrl may connect to" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tuwen.envoySelector" -}}
app.kubernetes.io/name: tuwen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: envoy
{{- end }}

{{- define "tuwen.testSelector" -}}
app.kubernetes.io/name: tuwen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "tuwen.grpcProtocol" -}}
{{- if .Values.tls.secret }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}
