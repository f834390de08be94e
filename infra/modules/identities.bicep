// Three identities, each with what its part needs and no more; roles stand beside the resources they are on.
param name string
param location string
param tags object

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-app'
  location: location
  tags: tags
}

resource job 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-job'
  location: location
  tags: tags
}

resource events 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-events'
  location: location
  tags: tags
}

output app object = { id: app.id, principalId: app.properties.principalId, clientId: app.properties.clientId }
output job object = { id: job.id, principalId: job.properties.principalId, clientId: job.properties.clientId }
output events object = { id: events.id, principalId: events.properties.principalId, clientId: events.properties.clientId }
