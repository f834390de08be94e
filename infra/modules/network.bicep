// The network of a private deployment: one subnet for each thing that lives in it.
param name string
param location string
param tags object

var appDelegation = [{ name: 'app', properties: { serviceName: 'Microsoft.App/environments' } }]

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.40.0.0/20'] }
    subnets: [
      { name: 'functions', properties: { addressPrefix: '10.40.0.0/24', delegations: appDelegation } }
      { name: 'jobs', properties: { addressPrefix: '10.40.2.0/23', delegations: appDelegation } }
      { name: 'endpoints', properties: { addressPrefix: '10.40.4.0/24' } }
    ]
  }
}

output id string = network.id
output functionsSubnetId string = '${network.id}/subnets/functions'
output jobsSubnetId string = '${network.id}/subnets/jobs'
output endpointsSubnetId string = '${network.id}/subnets/endpoints'
