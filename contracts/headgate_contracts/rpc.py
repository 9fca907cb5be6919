"""Which service answers which message: the one table of request-reply on the bus."""

from __future__ import annotations

from headgate_contracts import (
    alerts,
    assets,
    autoscale,
    batch,
    identity,
    jobs,
    logs,
    metering,
    metrics,
    mini_batches,
    nodes,
    power,
    provisioning,
    quotas,
    refreshing,
    registry,
    routing,
    simulations,
    sla,
    storage,
    subjects,
)
from headgate_contracts.envelope import Command, Done, Query, Reply

# service -> request type -> reply type
ANSWERS: dict[str, dict[type[Command] | type[Query], type[Reply]]] = {
    registry.SERVICE: {
        registry.PutEndpoint: registry.EndpointReply,
        registry.DeleteEndpoint: registry.OperationReply,
        registry.GetEndpoint: registry.EndpointReply,
        registry.ListEndpoints: registry.EndpointsReply,
        registry.ListKeys: registry.KeysReply,
        registry.RegenerateKey: registry.KeysReply,
        registry.PutDeployment: registry.DeploymentReply,
        registry.DeleteDeployment: registry.OperationReply,
        power.StopDeployment: registry.DeploymentReply,
        power.StartDeployment: registry.DeploymentReply,
        power.ScaleDeployment: registry.DeploymentReply,
        refreshing.RefreshDeployment: registry.DeploymentReply,
        registry.GetDeployment: registry.DeploymentReply,
        registry.ListDeployments: registry.DeploymentsReply,
        registry.ReportDeployment: Done,
        registry.PutModel: registry.AssetReply,
        registry.PutEnvironment: registry.AssetReply,
        registry.PutCode: registry.AssetReply,
        registry.GetAsset: registry.AssetReply,
        registry.ListAssets: registry.AssetsReply,
        registry.GetOperation: registry.OperationReply,
        assets.PutData: registry.AssetReply,
        assets.ArchiveAsset: Done,
        assets.DeleteAsset: storage.RemovedReply,
        storage.PutDatastore: storage.DatastoreReply,
        storage.DeleteDatastore: storage.RemovedReply,
        storage.GetDatastore: storage.DatastoreReply,
        storage.ListDatastores: storage.DatastoresReply,
        storage.GetDatastoreSecret: storage.DatastoreSecretReply,
        storage.PutCompute: storage.ComputeReply,
        storage.DeleteCompute: storage.RemovedReply,
        storage.GetCompute: storage.ComputeReply,
        storage.ListComputes: storage.ComputesReply,
        storage.ListWorkspaces: storage.WorkspacesReply,
        quotas.PutQuota: quotas.QuotasReply,
        quotas.DeleteQuota: Done,
        quotas.ListQuotas: quotas.QuotasReply,
        batch.PutBatchEndpoint: batch.BatchEndpointReply,
        batch.DeleteBatchEndpoint: registry.OperationReply,
        batch.GetBatchEndpoint: batch.BatchEndpointReply,
        batch.ListBatchEndpoints: batch.BatchEndpointsReply,
        batch.PutBatchDeployment: batch.BatchDeploymentReply,
        batch.DeleteBatchDeployment: registry.OperationReply,
        batch.GetBatchDeployment: batch.BatchDeploymentReply,
        batch.ListBatchDeployments: batch.BatchDeploymentsReply,
    },
    provisioning.SERVICE: {
        provisioning.ListInstances: provisioning.InstancesReply,
        provisioning.GetLogs: provisioning.LogsReply,
        provisioning.GetCapacity: provisioning.CapacityReply,
        refreshing.RefreshEnvironments: refreshing.RefreshReply,
        refreshing.GetRefresh: refreshing.RefreshReply,
        nodes.StartNode: Done,
        nodes.StopNode: Done,
        nodes.ReleaseNode: Done,
        nodes.ListNodes: nodes.NodesReply,
    },
    jobs.SERVICE: {
        jobs.SubmitJob: jobs.JobReply,
        jobs.CancelJob: jobs.JobReply,
        jobs.PauseJob: jobs.JobReply,
        jobs.ResumeJob: jobs.JobReply,
        jobs.RedriveDeadLetters: jobs.JobReply,
        jobs.GetJob: jobs.JobReply,
        jobs.ListJobs: jobs.JobsReply,
        jobs.ListDeadLetters: jobs.DeadLettersReply,
        jobs.GetMiniBatches: jobs.MiniBatchesReply,
        mini_batches.GetFiles: mini_batches.FilesReply,
        mini_batches.ReportMiniBatches: mini_batches.ReportsReply,
    },
    identity.SERVICE: {
        identity.CreateToken: identity.TokenReply,
        identity.RevokeToken: identity.TokenReply,
        identity.ListTokens: identity.TokensReply,
        identity.IssueToken: identity.IssuedTokenReply,
        identity.RotateSigningKey: Done,
        identity.PutIdentity: identity.IdentityReply,
        identity.DeleteIdentity: Done,
        identity.GetIdentity: identity.IdentityReply,
        identity.ListIdentities: identity.IdentitiesReply,
    },
    autoscale.SERVICE: {
        autoscale.PutAutoscaleSetting: autoscale.AutoscaleSettingReply,
        autoscale.DeleteAutoscaleSetting: storage.RemovedReply,
        autoscale.GetAutoscaleSetting: autoscale.AutoscaleSettingReply,
        autoscale.ListAutoscaleSettings: autoscale.AutoscaleSettingsReply,
        autoscale.ListDecisions: autoscale.DecisionsReply,
        simulations.SimulateAutoscale: simulations.SimulationReply,
    },
    logs.SERVICE: {
        logs.QueryLogs: logs.LogRowsReply,
    },
    metering.SERVICE: {
        **metering.ANSWERS,
        **sla.ANSWERS,
        **alerts.ANSWERS,
        metrics.QueryMetrics: metrics.MetricsReply,
        quotas.GetQuotaUse: quotas.QuotaUseReply,
    },
    routing.SERVICE: {
        routing.GetTraffic: routing.TrafficReply,
    },
}

_SERVICE_OF = {request: service for service, table in ANSWERS.items() for request in table}
_REPLY_OF = {request: reply for table in ANSWERS.values() for request, reply in table.items()}


def op_of(request: type[Command] | type[Query]) -> str:
    """The operation token of a request type: the last part of its type tag."""
    return request.TYPE.rsplit(".", 1)[-1]


def subject_of(request: type[Command] | type[Query]) -> str:
    """The subject on which a request type is asked."""
    return subjects.rpc(_SERVICE_OF[request], op_of(request))


def reply_of(request: type[Command] | type[Query]) -> type[Reply]:
    """The reply type of a request type."""
    return _REPLY_OF[request]
