"""What architectures are made of: matching, deformable attention, published weights. None of these files is one."""
