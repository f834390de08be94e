// The account of models: containers, queues, and the rule that clears what runs leave behind.
param name string
param location string
param tags object
param isPrivate bool
param workDays int
param appPrincipal string
param jobPrincipal string
param eventsPrincipal string

var containers = ['drop', 'retrained', 'work', 'compressed', 'failed']
var queues = ['events', 'events-poison', 'gpu-steps', 'gpu-steps-poison', 'gpu-answers', 'gpu-answers-poison']
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
var grants = [
  { principal: appPrincipal, role: blobContributor }
  { principal: appPrincipal, role: queueContributor }
  { principal: jobPrincipal, role: blobContributor }
  { principal: jobPrincipal, role: queueContributor }
  { principal: eventsPrincipal, role: queueSender }
]

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // Open to the network's endpoints and, by identity, to Event Grid; to nobody else when private.
    publicNetworkAccess: 'Enabled'
    networkAcls: { bypass: 'AzureServices', defaultAction: isPrivate ? 'Deny' : 'Allow' }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }

    resource container 'containers' = [for c in containers: { name: c }]
  }

  resource queueService 'queueServices' = {
    name: 'default'

    resource queue 'queues' = [for q in queues: { name: q }]
  }

  resource lifecycle 'managementPolicies' = {
    name: 'default'
    properties: {
      policy: {
        rules: [
          {
            name: 'clear-work'
            type: 'Lifecycle'
            enabled: true
            definition: {
              filters: { blobTypes: ['blockBlob'], prefixMatch: ['work/'] }
              actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: workDays } } }
            }
          }
        ]
      }
    }
  }
}

resource grant 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for g in grants: {
  name: guid(account.id, g.principal, g.role)
  scope: account
  properties: {
    principalId: g.principal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', g.role)
  }
}]

output id string = account.id
output name string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob
output queueEndpoint string = account.properties.primaryEndpoints.queue
