{{- /* Envoy's own configuration: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api */ -}}
{{- define "tuwen.envoyConfig" -}}
{{- $tls := .Values.tls -}}
{{- $envoy := .Values.envoy -}}
node: {id: {{ include "tuwen.name" . }}-envoy, cluster: {{ include "tuwen.name" . }}-envoy}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ $envoy.limits.callers }}
static_resources:
  listeners:
    - name: grpc
      address: {socket_address: {address: 0.0.0.0, port_value: 8001}}
      per_connection_buffer_limit_bytes: 1048576
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: grpc
                codec_type: HTTP2
                stream_idle_timeout: 0s  # no timeout, because a waiting request sends no data; its deadline ends it
                use_remote_address: true
                {{- with .Values.server.maxConnectionAgeSeconds }}
                common_http_protocol_options: {max_connection_duration: {{ . }}s}
                {{- end }}
                # The name of a caller comes from its key or token. A name that the caller sends is removed.
                early_header_mutation_extensions:
                  - name: envoy.http.early_header_mutation.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                      mutations: [{remove: x-tuwen-caller}]
                {{- if ne $envoy.accessLog "none" }}
                access_log: {{- include "tuwen.envoyAccessLog" . | nindent 18 }}
                {{- end }}
                route_config:
                  virtual_hosts:
                    - name: server
                      domains: ["*"]
                      request_headers_to_remove: [x-api-key]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: server
                            timeout: 0s
                            max_stream_duration: {grpc_timeout_header_max: 0s}  # the caller's own deadline applies
                            # Retries only requests that no server has begun, because retries to a full server would keep
                            # it full. A stopping server and a full server refuse with one status, so the message decides.
                            retry_policy:
                              retry_on: connect-failure,refused-stream,reset-before-request,retriable-headers
                              num_retries: 2
                              retriable_headers:
                                {{- range list "Server is stopping" "has stopped accepting" "server is shutting down" "has no available versions" }}
                                - {name: grpc-message, string_match: {contains: {{ . }}}}
                                {{- end }}
                              retry_host_predicate:
                                - name: envoy.retry_host_predicates.previous_hosts
                                  typed_config:
                                    "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                              host_selection_retry_max_attempts: 5
                http_filters:
                  {{- include "tuwen.envoyCallers" . | nindent 18 }}
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          {{- if $tls.secret }}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              {{- if $tls.mutual }}
              require_client_certificate: true
              {{- end }}
              common_tls_context: {{- include "tuwen.envoyTls" (dict "own" true "checks" (ternary "callers" "" $tls.mutual)) | nindent 16 }}
          {{- end }}
    - name: metrics
      address: {socket_address: {address: 0.0.0.0, port_value: 9902}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: metrics
                route_config:
                  virtual_hosts:
                    - name: admin
                      domains: ["*"]
                      routes:
                        - {match: {path: /ready}, route: {cluster: admin}}
                        - {match: {path: /stats/prometheus}, route: {cluster: admin}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: server
      cluster_type:
        name: envoy.clusters.dns
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
          dns_refresh_rate: 5s  # instead of the record's TTL, which may be longer than a pod drains
      # A draining pod first disappears from DNS, and passes its health checks until SIGTERM.
      ignore_health_on_host_removal: true
      connect_timeout: 2s
      lb_policy: LEAST_REQUEST
      load_assignment:
        cluster_name: server
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ include "tuwen.name" . }}-headless.{{ .Release.Namespace }}.svc, port_value: 8001}}}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      # These limits are far above the queues of the servers, which shed load themselves. They only bound Envoy's memory.
      circuit_breakers:
        thresholds:
          - max_connections: {{ $envoy.limits.connections }}
            max_pending_requests: {{ $envoy.limits.requests }}
            max_requests: {{ $envoy.limits.requests }}
            retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 10}
            track_remaining: true
      health_checks:
        - {interval: 5s, timeout: 5s, unhealthy_threshold: 2, healthy_threshold: 1, grpc_health_check: {}}
      # Only failed connections eject a server. Refusals of a full server do not, because the others would get its load.
      outlier_detection:
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 2
        enforcing_consecutive_local_origin_failure: 100
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        enforcing_local_origin_success_rate: 0
        interval: 2s
        base_ejection_time: 10s
        max_ejection_percent: 50
      {{- if $tls.secret }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: {{ first (include "tuwen.serverNames" . | fromYamlArray) }}
          common_tls_context: {{- include "tuwen.envoyTls" (dict "own" $tls.mutual "checks" "servers") | nindent 12 }}
      {{- end }}
    - name: admin
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
    {{- with $envoy.jwt.jwksUrl }}
    {{- $url := urlParse . }}
    {{- $host := regexReplaceAll ":[0-9]+$" $url.host "" }}
    {{- $secure := eq $url.scheme "https" }}
    - name: jwks
      type: STRICT_DNS
      connect_timeout: 2s
      load_assignment:
        cluster_name: jwks
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ $host }}, port_value: {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" $secure) }}}}}
      {{- if $secure }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: {{ $host }}
          common_tls_context:
            validation_context:
              trusted_ca: {filename: /etc/ssl/certs/ca-certificates.crt}
              match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: {{ $host }}}}]
      {{- end }}
    {{- end }}
{{- end }}

{{- /* Who calls, and how often a caller may. */ -}}
{{- define "tuwen.envoyCallers" -}}
{{- with .Values.envoy.apiKeys }}
- name: envoy.filters.http.rbac
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
    rules:
      policies:
        {{- range $caller, $key := . }}
        {{ $caller | quote }}:
          permissions: [{any: true}]
          principals: [{header: {name: x-api-key, string_match: {exact: {{ $key | quote }}}}}]
        {{- end }}
{{- end }}
{{- with .Values.envoy.jwt }}
{{- if .issuer }}
- name: envoy.filters.http.jwt_authn
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
    providers:
      issuer:
        issuer: {{ .issuer | quote }}
        {{- with .audiences }}
        audiences: {{ toJson . }}
        {{- end }}
        require_expiration: true
        claim_to_headers: [{header_name: x-tuwen-caller, claim_name: sub}]
        {{- if .jwksUrl }}
        remote_jwks:
          http_uri: {uri: {{ .jwksUrl | quote }}, cluster: jwks, timeout: 5s}
          cache_duration: 600s
          async_fetch: {fast_listener: false}
        {{- else }}
        local_jwks: {inline_string: {{ .jwks | quote }}}
        {{- end }}
    rules: [{match: {prefix: /}, requires: {provider_name: issuer}}]
{{- end }}
{{- end }}
{{- with .Values.envoy.rateLimit }}
{{- if .requestsPerSecond }}
- name: envoy.filters.http.local_ratelimit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: callers
    rate_limited_as_resource_exhausted: true
    filter_enabled: {default_value: {numerator: 100}}
    filter_enforced: {default_value: {numerator: 100}}
    max_dynamic_descriptors: 10000
    {{- $header := ternary "x-api-key" (ternary "x-tuwen-caller" "" (ne $.Values.envoy.jwt.issuer "")) (not (empty $.Values.envoy.apiKeys)) }}
    rate_limits:
      {{- if $header }}
      - actions: [{request_headers: {header_name: {{ $header }}, descriptor_key: caller}}]
      {{- else }}
      - actions: [{remote_address: {}}]
      {{- end }}
    descriptors:
      - entries: [{key: {{ ternary "caller" "remote_address" (ne $header "") }}}]
        token_bucket: {max_tokens: {{ .burst | default .requestsPerSecond }}, tokens_per_fill: {{ .requestsPerSecond }}, fill_interval: 1s}
    # The filter requires a bucket for requests without a descriptor, although every request has one.
    always_consume_default_token_bucket: false
    token_bucket: {max_tokens: {{ .requestsPerSecond }}, tokens_per_fill: {{ .requestsPerSecond }}, fill_interval: 1s}
{{- end }}
{{- end }}
{{- end }}

{{- define "tuwen.envoyAccessLog" -}}
- name: envoy.access_loggers.stdout
  {{- if eq .Values.envoy.accessLog "errors" }}
  filter: {grpc_status_filter: {exclude: true, statuses: [OK]}}
  {{- end }}
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
    log_format:
      json_format:
        time: "%START_TIME%"
        caller: "{{ ternary "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%" "%REQ(X-TUWEN-CALLER)%" (not (empty .Values.envoy.apiKeys)) }}"
        address: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
        method: "%REQ(:PATH)%"
        status: "%GRPC_STATUS(CAMEL_STRING)%"
        flags: "%RESPONSE_FLAGS%"
        reason: "%RESPONSE_CODE_DETAILS%"
        server: "%UPSTREAM_HOST%"
        milliseconds: "%DURATION%"
        attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
        trace: "%REQ(TRACEPARENT)%"
{{- end }}

{{- /* The names that the servers' certificate may bear. */ -}}
{{- define "tuwen.serverNames" -}}
{{- with .Values.tls.serverNames }}{{ toYaml . }}{{ else }}
{{- $name := include "tuwen.name" . }}
{{- range list (printf "%s-headless" $name) $name }}
- {{ . }}.{{ $.Release.Namespace }}.svc
- {{ . }}.{{ $.Release.Namespace }}.svc.cluster.local
{{- end }}
{{- end }}
{{- end }}

{{- /* By reference to files that Envoy watches, so that a renewed certificate takes effect without a restart. */ -}}
{{- define "tuwen.envoyTls" -}}
alpn_protocols: [h2]
{{- if .own }}
tls_certificate_sds_secret_configs:
  - {name: certificate, sds_config: {path_config_source: {path: /etc/envoy/certificate.yaml}, resource_api_version: V3}}
{{- end }}
{{- with .checks }}
validation_context_sds_secret_config: {name: {{ . }}, sds_config: {path_config_source: {path: /etc/envoy/{{ . }}.yaml}, resource_api_version: V3}}
{{- end }}
{{- end }}

{{- /* The files that tuwen.envoyTls refers to. */ -}}
{{- define "tuwen.envoyTlsFiles" -}}
{{- $secret := "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" -}}
certificate.yaml: |
  resources:
    - "@type": {{ $secret }}
      name: certificate
      tls_certificate:
        certificate_chain: {filename: /tls/tls.crt}
        private_key: {filename: /tls/tls.key}
        watched_directory: {path: /tls}
callers.yaml: |
  resources:
    - "@type": {{ $secret }}
      name: callers
      validation_context:
        trusted_ca: {filename: /tls/ca.crt}
        watched_directory: {path: /tls}
servers.yaml: |
  resources:
    - "@type": {{ $secret }}
      name: servers
      validation_context:
        trusted_ca: {filename: /tls/ca.crt}
        watched_directory: {path: /tls}
        match_typed_subject_alt_names:
          {{- range include "tuwen.serverNames" . | fromYamlArray }}
          - {san_type: DNS, matcher: {exact: {{ . }}}}
          {{- end }}
{{- end }}
