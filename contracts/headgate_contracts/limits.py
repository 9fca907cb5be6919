"""Every bound of the system in one place. Names end in their unit.

Figures that follow Azure Machine Learning name its limits page; the others say why.
"""

from __future__ import annotations

# Names become subject tokens, file names and labels, so one strict rule serves all of them.
NAME_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
NAME_CHARS_MIN = 3
NAME_CHARS_MAX = 32
NAME_RULE = (
    "3 to 32 characters: lower-case letters, digits and single dashes, "
    "a letter first, no dash at the end"
)
ASSET_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
ASSET_VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

# Azure: quotas and limits of endpoints and deployments.
DEPLOYMENTS_PER_ENDPOINT_MAX = 20
INSTANCES_PER_DEPLOYMENT_MAX = 50
REQUEST_TIMEOUT_MS_DEFAULT = 5_000
REQUEST_TIMEOUT_MS_MAX = 180_000
MIRROR_PERCENT_MAX = 50
MIRROR_WAITING_MAX = 64  # copies in a router, for one deployment
MIRROR_WAITING_BYTES_MAX = 32 * 1024 * 1024
CONCURRENCY_PER_INSTANCE_MAX = 1_000
INT32_MAX = 2**31 - 1  # what Azure's counters hold
BATCH_RETRIES_MAX = 1_000
BATCH_TIMEOUT_S_MAX = 259_200  # Azure: three days for one mini-batch
FILE_NAME_CHARS_MAX = 255
BATCHING_ROWS_DEFAULT = 32
BATCHING_ROWS_MAX = 100_000
BATCHING_WAIT_MS_MAX = 60_000
JOB_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
JOBS_ACTIVE_MAX = 200  # in one workspace
JOB_NODES_MAX = 200  # of all jobs together
BATCH_REPORTS_MAX = 256  # their event fits the stream of events
BATCH_ROWS_INLINE_CHARS_MAX = 16 * 1024  # longer results are objects of their own
BATCH_FILES_INLINE_MAX = 100  # more files of a mini-batch are asked for
BATCH_FILES_MAX = 20_000  # of one mini-batch
BATCH_OUTPUT_FILES_MAX = 1_000  # that one call of run() may write
BATCH_GROUPS_DEFAULT = 400  # of mini-batches, in a picture of a whole job
BATCH_GROUPS_MAX = 1_000
BATCH_LOSSES_MAX = 10  # ends of nodes that one mini-batch survives without blame
BATCH_ACK_WAIT_S = 10.0  # after which a silent node's work goes to another
BATCH_HTTP_BYTES_MAX = 1024**3
BATCH_HTTP_IDLE_S = 60.0
BATCH_HTTP_TOTAL_S = 3_600.0  # for one file
BATCH_HTTP_REDIRECTS_MAX = 3
DATASTORES_OPEN_MAX = 200  # in one service
JOB_PARTS_KEPT_S = 7 * 86_400.0  # of jobs that failed or were canceled, so that they can go on
PENDING_PER_SLOT = 2  # Azure: pending <= 2 x max_concurrent_requests_per_instance x instances

# NATS counts payload and headers together and closes the connection above its limit, so a
# scoring message keeps a margin for our frame and the forwarded headers.
BUS_PAYLOAD_BYTES_MAX = 8 * 1024 * 1024
SCORING_OVERHEAD_BYTES = 64 * 1024
SCORING_BODY_BYTES_MAX = BUS_PAYLOAD_BYTES_MAX - SCORING_OVERHEAD_BYTES
# Larger bodies, and answers in parts, take many messages: so much of one may be under way. A part
# is small enough that others' messages wait little for it, and a window large enough that a round
# trip of the bus is not felt. A router may have thousands of answers to slow clients in hand.
BODY_BYTES_MAX = 100 * 1024 * 1024  # Azure: the proxy of the inference image takes 100 MB
SPOOLED_BYTES_MAX = 8 * 1024**3  # of all large bodies that one router has in hand, on disk
BODY_PART_BYTES = 256 * 1024
BODY_WINDOW_BYTES = 1024 * 1024
ANSWER_PART_BYTES_MAX = 64 * 1024
ANSWER_WINDOW_BYTES = 256 * 1024
# An instance that may not go on with an answer hears so often that somebody still reads it, and
# gives the answer up after so long a silence: its router has died.
STREAM_KEPT_EVERY_S = 5.0
STREAM_GIVEN_UP_S = 30.0
FORWARDED_HEADER_BYTES_MAX = 8 * 1024
REQUEST_HEADERS_MAX = 100
REQUEST_HEADER_BYTES_MAX = 32 * 1024
CLIENT_REQUEST_ID_CHARS_MAX = 100  # the reference inference server answers 431 above this

# What the registry keeps. Keys given by a user must be as hard to guess as Azure's (32 characters).
KEY_CHARS_MIN = 32
KEY_CHARS_MAX = 256
ENDPOINTS_MAX = 1_000
GRANTS_MAX = 50
ACCESS_TOKENS_MAX = 1_000
IDENTITIES_PER_WORKSPACE_MAX = 200
DATASTORES_PER_WORKSPACE_MAX = 200
COMPUTES_PER_WORKSPACE_MAX = 200
COMPUTE_INSTANCES_MAX = 100
COMPUTE_IDLE_S_MAX = 7 * 86_400
SECRET_CHARS_MAX = 8 * 1024
DATA_PATH_CHARS_MAX = 2_048
SPEC_BYTES_MAX = 256 * 1024
ERROR_MESSAGE_CHARS_MAX = 4_096
OPERATIONS_KEPT_MAX = 10_000
OPERATIONS_KEPT_S = 30 * 86_400.0

# Instances say that they live twice a second and are left out after three silent beats.
HEARTBEAT_INTERVAL_S = 0.5
HEARTBEAT_MISSED_MAX = 3
WITHHELD_S = 10.0  # how long routers take the provisioner's word that an instance is unready
DRAIN_PROPAGATION_S = 0.5
DRAIN_TIMEOUT_S = 30.0

# Routers tell the load of deployments: Knative's proxies do so every second.
LOAD_REPORT_INTERVAL_S = 1.0
LOAD_ROWS_PER_REPORT_MAX = 100

# Autoscale. Azure: 20 profiles of 10 rules, windows up to 12 hours, cooldowns up to 7 days.
SCALE_PROFILES_MAX = 20
SCALE_RULES_MAX = 10
SCALE_WINDOW_S_MAX = 12 * 3_600
SCALE_COOLDOWN_S_MAX = 7 * 86_400
SCALE_SETTINGS_MAX = 1_000
SIMULATION_S_MAX = 2 * 86_400.0  # half a second of work for a day
SIMULATION_RATE_MAX = 1e6  # requests per second
SIMULATION_POINTS_MAX = 2_880
SIMULATION_MOMENTS_MAX = 480
SIMULATION_CHANGES_MAX = 200
SCALE_DECISIONS_KEPT_MAX = 1_000  # of one deployment
SCALE_DECISIONS_KEPT_S = 30 * 86_400.0
# Requests that wait for the first instance of a deployment. Knative's activator takes 10,000; ours
# are held with their bodies.
HELD_REQUESTS_DEFAULT = 1_000
HELD_REQUESTS_MAX = 10_000
HELD_BYTES_MAX = 256 * 1024 * 1024
HOLD_S = 120.0

# Sizes of instances: what the largest machines of clouds have.
INSTANCE_TYPE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
INSTANCE_TYPE_RULE = "at most 64 letters, digits, dots, dashes and underscores"
INSTANCE_TYPES_MAX = 2_000
INSTANCE_CORES_MIN = 0.05
INSTANCE_CORES_MAX = 1_024.0
INSTANCE_MEMORY_GIB_MIN = 0.0625  # an interpreter without a model takes half of that
INSTANCE_MEMORY_GIB_MAX = 32_768.0
INSTANCE_GPUS_MAX = 64

# Back-off between restarts of a failing instance (Kubernetes' crash-loop figures).
RESTART_BACKOFF_FIRST_S = 10.0
RESTART_BACKOFF_MAX_S = 300.0
RESTART_BACKOFF_RESET_S = 600.0

# Data collection. Azure: five collectors in a script, payloads above 4 MiB as objects of their own.
COLLECTION_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
COLLECTORS_MAX = 5
CAPTURED_HEADERS_MAX = 20
COLLECTED_DATA_BYTES_MAX = 4 * 1024 * 1024
COLLECTED_FILE_BYTES_MAX = 8 * 1024 * 1024  # sent whole each time it has grown
COLLECTED_QUEUE_BYTES_MAX = 32 * 1024 * 1024
COLLECTED_QUEUE_EVENTS_MAX = 20_000
COLLECTED_DISK_BYTES_MAX = 256 * 1024 * 1024  # of an instance, not yet in the store
COLLECTED_LEFT_BYTES_MAX = 1024**3  # of all instances that have ended

# The studio. A session that is idle for a working day has been forgotten.
STUDIO_SESSIONS_MAX = 200
STUDIO_SESSIONS_OF_SUBJECT_MAX = 20
STUDIO_SESSION_IDLE_S = 12 * 3_600.0
STUDIO_SESSION_LIFE_S = 7 * 24 * 3_600.0
STUDIO_PAGES_MAX = 200  # those that were left a moment ago included; one takes about 1 MiB
STUDIO_PAGES_OF_SESSION_MAX = 40
# Nobody opens more than 30 pages in a minute to look at them.
STUDIO_PAGES_AT_ONCE = 16  # of a session
STUDIO_PAGE_OF_SESSION_EVERY_S = 4.0
STUDIO_PAGES_OF_ALL_AT_ONCE = 50
STUDIO_PAGE_EVERY_S = 1.0
STUDIO_WAITING_OF_SESSION_MAX = 20  # pages to be built: 80 s of them
STUDIO_UNREAD_S = 7.0  # a browser says every three seconds what it has read
STUDIO_ANSWERS_MAX = 50  # that pages of one session share
STUDIO_BACKLOG_MESSAGES_MAX = 200  # that wait for one page's browser
STUDIO_DRAFTS_MAX = 20  # of a session
STUDIO_POINTS_MAX = 600  # of a live chart, one a second
STUDIO_UPLOAD_BYTES_MAX = 512 * 1024 * 1024
STUDIO_MESSAGE_BYTES_MAX = 16 * 1024 * 1024

# Files a person writes.
YAML_BYTES_MAX = 1_048_576
YAML_ALIASES_MAX = 100
YAML_DEPTH_MAX = 64
JSON_DEPTH_MAX = 64
CONTROL_BODY_BYTES_MAX = 4 * 1024 * 1024
UPLOAD_FILE_BYTES_MAX = 16 * 1024**3
UPLOAD_FILES_MAX = 10_000
TAGS_MAX = 50
TAG_CHARS_MAX = 1_024
DESCRIPTION_CHARS_MAX = 5_000
ENVIRONMENT_VARIABLES_MAX = 256
ENVIRONMENT_BUILD_CHARS_MAX = 64
ENVIRONMENT_CHANGES_MAX = 40  # lines that say what a refresh has found
ENVIRONMENT_CHANGE_CHARS_MAX = 300
REFRESHES_KEPT_MAX = 50
REFRESHES_WAITING_MAX = 8
LOG_LINES_DEFAULT = 5_000
LOG_LINES_MAX = 50_000
LOG_WAIT_S_MAX = 30
LOG_ROWS_DEFAULT = 100
LOG_ROWS_MAX = 10_000
LOG_COLUMNS_MAX = 50
LOG_WHERE_CHARS_MAX = 4_000
LOG_WHERE_TERMS_MAX = 200
LOG_WHERE_DEPTH_MAX = 30
LOG_MESSAGE_CHARS_MAX = 8_192
LOG_ANSWER_BYTES_MAX = 4 * 1024 * 1024
LOG_FILTER_CHARS_MAX = 256
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
SKIP_MAX = 10_000  # beyond that, lists are read by their cursors
URL_BYTES_MAX = 8 * 1024

# Usage. A page of a reporter's journal holds about a thousand rows. What is older than the age is
# not taken into the ledger (Stripe's figure), which forgets reporters after the same time.
CALLER_CHARS_MAX = 128
USAGE_PAGE_BYTES = 256 * 1024
USAGE_PAGES_MAX = 256
USAGE_ROWS_PER_MESSAGE = 500
USAGE_AGE_S_MAX = 35 * 86_400.0

# Costs. Minutes are added up to hours after two days, hours are kept for a year and a month.
COST_ROWS_MAX = 5_000
LEDGER_MINUTES_KEPT_S = 2 * 86_400.0
LEDGER_HOURS_KEPT_S = 396 * 86_400.0
BUDGETS_PER_WORKSPACE_MAX = 100
BUDGET_AMOUNT_MAX = 1e12
BUDGET_THRESHOLDS_MAX = 10
BUDGET_THRESHOLD_PERCENT_MAX = 1_000

# Quotas. A window is at most a month; longer ones are what budgets are for.
QUOTAS_PER_WORKSPACE_MAX = 200
QUOTAS_PER_QUERY_MAX = 1_000
QUOTA_USES_MAX = 5_000  # places of quotas in one answer
QUOTA_LIMIT_MAX = 1e15
QUOTA_WINDOW_S_MAX = 31 * 86_400
QUOTA_COUNTERS_MAX = 20_000  # callers and endpoints that a router counts
QUOTA_TOLD_EVERY_S = 60.0

# Service levels. Minutes are added up to hours after a day. A handful of requests says nothing of a
# rate of failures: fewer alert nobody.
SLA_WINDOW_DAYS_MAX = 90
SLA_MINUTES_KEPT_S = 86_400.0
SLA_ALERT_REQUESTS_MIN = 10

# Alerts. A receiver that is away for a day misses what came before; its queue keeps the newest.
ALERT_RULES_PER_WORKSPACE_MAX = 100
DELIVERIES_WAITING_MAX = 1_000  # of one rule
DELIVERIES_KEPT_MAX = 10_000  # of all, ended ones
DELIVERIES_KEPT_S = 7 * 86_400.0
DELIVERY_TRIED_S = 86_400.0
DELIVERY_RETRY_FIRST_S = 5.0
DELIVERY_RETRY_MAX_S = 3_600.0
DELIVERY_TIMEOUT_S = 10.0
DELIVERIES_AT_ONCE_MAX = 8

# Metrics of Azure's names: minutes of endpoints, deployments and instances.
METRICS_PER_QUERY_MAX = 20
METRIC_POINTS_MAX = 50_000

# About forty series each, with buckets of latencies: what one page and one Prometheus take well.
PROMETHEUS_DEPLOYMENTS_MAX = 1_000

# Requests that are sent again with the same Idempotency-Key.
REPEATS_KEPT_S = 86_400.0
REPEAT_KEY_CHARS_MAX = 255
REPEAT_ANSWER_BYTES_MAX = 64 * 1024
REPEAT_RUNNING_S_MAX = 120.0  # a gateway that has not answered by then has died

# Tokens. Azure does not say how long its own live; a working day needs no refresh of a scoring
# token, and a stolen short one is of no use tomorrow.
ACCESS_TOKEN_LIFETIME_S_DEFAULT = 90 * 86_400.0
ACCESS_TOKEN_LIFETIME_S_MAX = 365 * 86_400.0
SHORT_TOKEN_LIFETIME_S_MIN = 60.0
SHORT_TOKEN_LIFETIME_S_DEFAULT = 3_600.0
SHORT_TOKEN_LIFETIME_S_MAX = 12 * 3_600.0
TOKEN_CHARS_MAX = 8 * 1024
TOKEN_LEEWAY_S = 5.0  # between the clocks of two machines
FAILED_AUTH_ADDRESSES_MAX = 10_000
KNOWN_CREDENTIALS_MAX = 4_096
SIGNING_KEY_LIFETIME_S = 30 * 86_400.0

ROUTE_REREAD_S = 3.0  # a KV watch may stay blind for 20 s after a server restart
KEY_REVOCATION_S_MAX = 5.0
