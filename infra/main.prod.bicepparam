using 'main.bicep'

// Storage, vault and registry reachable from the virtual network alone; a T4 for GPU steps.
param name = 'prod'
param isPrivate = true
param gpuProfile = 'Consumption-GPU-NC8as-T4'
param mostInstances = 100
param mostGpuJobs = 8
param workDays = 30
param tags = { environment: 'prod' }
