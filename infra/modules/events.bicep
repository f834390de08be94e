// In: blobs that are dropped become messages of the queue 'events', which wait while the app sleeps and reach it in a
// private network too. Out: a topic that runs are told to, as CloudEvents.
param name string
param location string
param tags object
param storageName string
param eventsIdentityId string
param appPrincipal string

var dataSender = 'd5a91429-5739-47e2-a06b-3470a27159e7'

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: storageName
}

resource drops 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgs-${name}'
  location: location
  tags: tags
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${eventsIdentityId}': {} } }
  properties: { source: account.id, topicType: 'Microsoft.Storage.StorageAccounts' }

  resource dropped 'eventSubscriptions' = {
    name: 'dropped'
    properties: {
      eventDeliverySchema: 'CloudEventSchemaV1_0'
      deliveryWithResourceIdentity: {
        identity: { type: 'UserAssigned', userAssignedIdentity: eventsIdentityId }
        destination: { endpointType: 'StorageQueue', properties: { resourceId: account.id, queueName: 'events' } }
      }
      filter: {
        includedEventTypes: ['Microsoft.Storage.BlobCreated']
        subjectBeginsWith: '/blobServices/default/containers/drop/blobs/'
      }
      retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
    }
  }
}

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: 'evgt-${name}'
  location: location
  tags: tags
  properties: { inputSchema: 'CloudEventSchemaV1_0', disableLocalAuth: true }
}

resource grant 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, appPrincipal, dataSender)
  scope: topic
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
  }
}

output topicName string = topic.name
output topicEndpoint string = topic.properties.endpoint
