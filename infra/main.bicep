// Serverless on Azure: everything in one resource group. README.md beside this file says what it creates and costs.
targetScope = 'resourceGroup'

@description('Short name of this environment; resources are named after it.')
@minLength(2)
@maxLength(10)
param name string

@description('Region; one with Flex Consumption, and with the GPU profile when there is one.')
param location string = resourceGroup().location

@description('Keep storage, vault and registry off the public network: virtual network, private endpoints.')
param isPrivate bool = false

@description('Container Apps workload profile with a GPU, or Consumption to run GPU steps on CPUs.')
@allowed(['Consumption', 'Consumption-GPU-NC8as-T4', 'Consumption-GPU-NC24-A100'])
param gpuProfile string = 'Consumption'

@description('Image of the GPU job; deploy.sh builds it and sets it.')
param gpuImage string = 'mcr.microsoft.com/k8se/quickstart-jobs:latest'

@description('Most GPU jobs at a time.')
@minValue(1)
@maxValue(100)
param mostGpuJobs int = 4

@description('Most instances of the Functions app.')
@minValue(1)
@maxValue(1000)
param mostInstances int = 40

@description('Memory of one instance of the Functions app, in MB.')
@allowed([2048, 4096])
param instanceMemory int = 4096

@description('Days after which intermediate objects that nobody wrote or read again are deleted.')
@minValue(1)
param workDays int = 14

@description('Webhooks that hear of runs, separated by spaces; https only.')
param webhooks string = ''

@description('Tags of all resources.')
param tags object = {}

var suffix = uniqueString(resourceGroup().id, name)
var short = toLower(replace(name, '-', ''))

module identities 'modules/identities.bicep' = {
  name: 'identities'
  params: { name: name, location: location, tags: tags }
}

module network 'modules/network.bicep' = if (isPrivate) {
  name: 'network'
  params: { name: name, location: location, tags: tags }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: { name: name, location: location, tags: tags, appPrincipal: identities.outputs.app.principalId }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'st${take(short, 8)}${take(suffix, 10)}'
    location: location
    tags: tags
    isPrivate: isPrivate
    workDays: workDays
    appPrincipal: identities.outputs.app.principalId
    jobPrincipal: identities.outputs.job.principalId
    eventsPrincipal: identities.outputs.events.principalId
  }
}

module hostStorage 'modules/hostStorage.bicep' = {
  name: 'hostStorage'
  params: {
    name: 'sh${take(short, 8)}${take(suffix, 10)}'
    location: location
    tags: tags
    isPrivate: isPrivate
    appPrincipal: identities.outputs.app.principalId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: 'kv-${take(short, 8)}-${take(suffix, 8)}'
    location: location
    tags: tags
    isPrivate: isPrivate
    appPrincipal: identities.outputs.app.principalId
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  params: {
    name: 'cr${take(short, 8)}${take(suffix, 10)}'
    location: location
    tags: tags
    isPrivate: isPrivate
    jobPrincipal: identities.outputs.job.principalId
  }
}

module endpoints 'modules/endpoints.bicep' = if (isPrivate) {
  name: 'endpoints'
  params: {
    name: name
    location: location
    tags: tags
    networkId: network!.outputs.id
    subnetId: network!.outputs.endpointsSubnetId
    storageId: storage.outputs.id
    hostStorageId: hostStorage.outputs.id
    vaultId: vault.outputs.id
    registryId: registry.outputs.id
  }
}

module events 'modules/events.bicep' = {
  name: 'events'
  params: {
    name: name
    location: location
    tags: tags
    storageName: storage.outputs.name
    eventsIdentityId: identities.outputs.events.id
    appPrincipal: identities.outputs.app.principalId
  }
}

module functions 'modules/functions.bicep' = {
  name: 'functions'
  params: {
    name: 'func-${name}-${take(suffix, 6)}'
    location: location
    tags: tags
    identityId: identities.outputs.app.id
    identityClientId: identities.outputs.app.clientId
    storageBlobEndpoint: storage.outputs.blobEndpoint
    storageQueueEndpoint: storage.outputs.queueEndpoint
    hostStorageName: hostStorage.outputs.name
    packageContainerUrl: hostStorage.outputs.packageContainerUrl
    vaultName: vault.outputs.name
    topicEndpoint: events.outputs.topicEndpoint
    insightsConnection: monitoring.outputs.insightsConnection
    webhooks: webhooks
    mostInstances: mostInstances
    instanceMemory: instanceMemory
    subnetId: isPrivate ? network!.outputs.functionsSubnetId : ''
  }
  dependsOn: [endpoints]
}

module gpuJob 'modules/gpuJob.bicep' = {
  name: 'gpuJob'
  params: {
    name: name
    location: location
    tags: tags
    profile: gpuProfile
    image: gpuImage
    mostJobs: mostGpuJobs
    identityId: identities.outputs.job.id
    identityClientId: identities.outputs.job.clientId
    storageName: storage.outputs.name
    storageBlobEndpoint: storage.outputs.blobEndpoint
    registryServer: registry.outputs.server
    workspaceName: monitoring.outputs.workspaceName
    subnetId: isPrivate ? network!.outputs.jobsSubnetId : ''
  }
  dependsOn: [endpoints]
}

@description('The account that models are dropped into.')
output storageAccount string = storage.outputs.name
@description('The Functions app.')
output functionApp string = functions.outputs.name
@description('Its address.')
output functionHost string = functions.outputs.host
@description('The registry that holds the GPU image.')
output registry string = registry.outputs.name
@description('The job that runs GPU steps.')
output gpuJob string = gpuJob.outputs.name
@description('The vault that holds the secret of the hooks.')
output vault string = vault.outputs.name
@description('The topic that runs are told to.')
output topic string = events.outputs.topicName
