{{- define "zerotune.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Names of objects. Room is left for suffixes. */ -}}
{{- define "zerotune.fullname" -}}
{{- $name := include "zerotune.name" . }}
{{- $default := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $default | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- define "zerotune.selectorLabels" -}}
app.kubernetes.io/name: {{ include "zerotune.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "zerotune.labels" -}}
{{ include "zerotune.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The labels of the pod of `helm test`: the NetworkPolicy lets it in. */ -}}
{{- define "zerotune.testLabels" -}}
app.kubernetes.io/name: {{ include "zerotune.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "zerotune.image" -}}
{{- include "zerotune.imageName" (list . .Values.image) }}
{{- end }}

{{- define "zerotune.trainerImage" -}}
{{- include "zerotune.imageName" (list . .Values.trainer.image) }}
{{- end }}

{{- /* Of the root and an `image`: REPOSITORY@DIGEST where a digest is given, else REPOSITORY:TAG. */ -}}
{{- define "zerotune.imageName" -}}
{{- $root := index . 0 }}
{{- with index . 1 }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The Secret with the webhook's certificate. */ -}}
{{- define "zerotune.certificateSecret" -}}
{{- $certificate := .Values.admission.certificate }}
{{- if eq $certificate.source "secret" }}
{{- required "admission.certificate.secretName is missing: source is `secret`, name the Secret that holds tls.crt and tls.key" $certificate.secretName }}
{{- else if eq $certificate.source "cert-manager" }}
{{- printf "%s-admission-issued" (include "zerotune.fullname" .) }}
{{- else }}
{{- printf "%s-admission" (include "zerotune.fullname" .) }}
{{- end }}
{{- end }}

{{- /* The name by which the API server calls the webhook. */ -}}
{{- define "zerotune.admissionHost" -}}
{{- printf "%s.%s.svc" (include "zerotune.fullname" .) .Release.Namespace }}
{{- end }}
