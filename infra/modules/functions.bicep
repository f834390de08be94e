// The Functions app: Flex Consumption, which sleeps at no cost and grows with the queues.
param name string
param location string
param tags object
param identityId string
param identityClientId string
param storageBlobEndpoint string
param storageQueueEndpoint string
param hostStorageName string
param packageContainerUrl string
param vaultName string
param topicEndpoint string
param insightsConnection string
param webhooks string
param mostInstances int
param instanceMemory int
param subnetId string

var settings = {
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  AZURE_CLIENT_ID: identityClientId
  AzureWebJobsStorage__accountName: hostStorageName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  SERVERLESS_STORAGE: storageBlobEndpoint
  SERVERLESS_QUEUES__queueServiceUri: storageQueueEndpoint
  SERVERLESS_QUEUES__credential: 'managedidentity'
  SERVERLESS_QUEUES__clientId: identityClientId
  // Half is left to the host and to what activities hold beside their tensors.
  SERVERLESS_MEMORY_MB: string(instanceMemory / 2)
  SERVERLESS_EVENT_TOPIC: topicEndpoint
  SERVERLESS_WEBHOOKS: webhooks
  SERVERLESS_HOOK_SECRET: '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=hook-secret)'
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
      appSettings: [for s in items(settings): { name: s.key, value: s.value }]
    }
    functionAppConfig: {
      runtime: { name: 'dotnet-isolated', version: '10.0' }
      scaleAndConcurrency: { maximumInstanceCount: mostInstances, instanceMemoryMB: instanceMemory }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
    }
  }
}

output name string = app.name
output host string = app.properties.defaultHostName
