// A job that the queue 'gpu-steps' starts and its emptiness stops: one message, one execution.
param name string
param location string
param tags object
param profile string
param image string
param mostJobs int
param identityId string
param identityClientId string
param storageName string
param storageBlobEndpoint string
param registryServer string
param workspaceName string
param subnetId string

var isGpu = profile != 'Consumption'
var isOurs = startsWith(image, registryServer)

resource environment 'Microsoft.App/managedEnvironments@2025-01-01' = {
  name: 'cae-${name}'
  location: location
  tags: tags
  properties: {
    // Logs go through the diagnostic setting below, which takes no key.
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: empty(subnetId) ? null : { infrastructureSubnetId: subnetId, internal: true }
    workloadProfiles: concat(
      [{ name: 'Consumption', workloadProfileType: 'Consumption' }],
      isGpu ? [{ name: 'gpu', workloadProfileType: profile }] : []
    )
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspaceName
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: environment
  properties: {
    workspaceId: workspace.id
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

resource job 'Microsoft.App/jobs@2025-01-01' = {
  name: 'job-${name}-gpu'
  location: location
  tags: tags
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    environmentId: environment.id
    workloadProfileName: isGpu ? 'gpu' : 'Consumption'
    configuration: {
      triggerType: 'Event'
      replicaTimeout: 7200
      replicaRetryLimit: 0
      registries: isOurs ? [{ server: registryServer, identity: identityId }] : []
      eventTriggerConfig: {
        parallelism: 1
        replicaCompletionCount: 1
        scale: {
          minExecutions: 0
          maxExecutions: mostJobs
          pollingInterval: 30
          rules: [
            {
              name: 'steps'
              type: 'azure-queue'
              identity: identityId
              metadata: { accountName: storageName, queueName: 'gpu-steps', queueLength: '1' }
            }
          ]
        }
      }
    }
    template: {
      containers: [
        {
          name: 'gpu-job'
          image: image
          env: [
            { name: 'SERVERLESS_STORAGE', value: storageBlobEndpoint }
            { name: 'AZURE_CLIENT_ID', value: identityClientId }
          ]
          resources: { cpu: json(isGpu ? '8' : '2'), memory: isGpu ? '56Gi' : '4Gi' }
        }
      ]
    }
  }
}

output name string = job.name
