using 'main.bicep'

// Cheapest: public endpoints behind identities, GPU steps on CPUs.
param name = 'dev'
param gpuProfile = 'Consumption'
param mostInstances = 10
param tags = { environment: 'dev' }
