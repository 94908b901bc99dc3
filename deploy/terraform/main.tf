# AWS: one bucket with versions, Postgres, two servers behind a balancer. Not applied by the tests, which have no account:
# read it as a plan, and run `terraform plan` first.
#
# Wanted from you: a VPC with two private subnets, an image of deploy/docker in a registry, a certificate.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws    = { source = "hashicorp/aws", version = "~> 5.0" }
    random = { source = "hashicorp/random", version = "~> 3.6" }
  }
}

variable "name" { default = "treehold" }
variable "region" { default = "eu-central-1" }
variable "vpc_id" { type = string }
variable "private_subnets" { type = list(string) }
variable "callers" {
  type        = list(string)
  description = "Security groups of the backends that call the API; nobody else reaches it"
}
variable "image" { type = string }
variable "certificate_arn" { type = string }

provider "aws" { region = var.region }

# --- Objects. Never changed once written. Versions are for whoever restores what was deleted by hand: no command reads them.
resource "aws_s3_bucket" "objects" { bucket_prefix = "${var.name}-" }

resource "aws_s3_bucket_versioning" "objects" {
  bucket = aws_s3_bucket.objects.id
  versioning_configuration { status = "Enabled" }
}

resource "aws_s3_bucket_public_access_block" "objects" {
  bucket                  = aws_s3_bucket.objects.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "objects" {
  bucket = aws_s3_bucket.objects.id
  rule {
    apply_server_side_encryption_by_default { sse_algorithm = "AES256" }
  }
}

# What was deleted is really gone after 30 days: longer than the database is ever set back.
resource "aws_s3_bucket_lifecycle_configuration" "objects" {
  bucket = aws_s3_bucket.objects.id
  rule {
    id     = "noncurrent"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration { noncurrent_days = 30 }
    abort_incomplete_multipart_upload { days_after_initiation = 2 }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.objects.arn, "${aws_s3_bucket.objects.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "objects" {
  bucket = aws_s3_bucket.objects.id
  policy = data.aws_iam_policy_document.tls_only.json
}

# --- Refs, pending work, the ledger.
resource "random_password" "database" {
  length  = 40
  special = false
}

resource "aws_db_subnet_group" "database" {
  name       = var.name
  subnet_ids = var.private_subnets
}

resource "aws_security_group" "database" {
  name_prefix = "${var.name}-database-"
  vpc_id      = var.vpc_id
  ingress {
    from_port       = 5432
    to_port         = 5432
    protocol        = "tcp"
    security_groups = [aws_security_group.server.id]
  }
}

resource "aws_db_instance" "database" {
  identifier_prefix      = "${var.name}-"
  engine                 = "postgres"
  engine_version         = "16"
  instance_class         = "db.m7g.large"
  allocated_storage      = 100
  storage_type           = "gp3"
  storage_encrypted      = true
  db_name                = "treehold"
  username               = "treehold"
  password               = random_password.database.result
  db_subnet_group_name   = aws_db_subnet_group.database.name
  vpc_security_group_ids = [aws_security_group.database.id]
  multi_az               = true
  # Any point of the last 7 days; the bucket keeps emptied packs as long (`repack --grace`).
  backup_retention_period      = 7
  deletion_protection          = true
  performance_insights_enabled = true
}

# --- Secrets reach the servers as environment variables, from here.
resource "random_password" "api_key" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "settings" { name_prefix = "${var.name}-" }

resource "aws_secretsmanager_secret_version" "settings" {
  secret_id = aws_secretsmanager_secret.settings.id
  secret_string = jsonencode({
    api_key      = random_password.api_key.result
    database_url = "postgres://treehold:${random_password.database.result}@${aws_db_instance.database.endpoint}/treehold?sslmode=require"
  })
}

# --- Servers: alike, without state but a cache.
resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-balancer-"
  vpc_id      = var.vpc_id
  ingress {
    from_port       = 443
    to_port         = 443
    protocol        = "tcp"
    security_groups = var.callers
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "server" {
  name_prefix = "${var.name}-server-"
  vpc_id      = var.vpc_id
  ingress {
    from_port       = 3001
    to_port         = 3001
    protocol        = "tcp"
    security_groups = [aws_security_group.balancer.id]
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "server" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

data "aws_iam_policy_document" "server" {
  statement {
    # GetObjectVersion, and ListBucketVersions below: `admin verify --repair` reads what was overwritten or deleted.
    actions   = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.objects.arn}/*"]
  }
  statement {
    actions   = ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning"]
    resources = [aws_s3_bucket.objects.arn]
  }
}

resource "aws_iam_role_policy" "server" {
  role   = aws_iam_role.server.id
  policy = data.aws_iam_policy_document.server.json
}

resource "aws_iam_role" "starter" {
  name_prefix        = "${var.name}-start-"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "starter" {
  role       = aws_iam_role.starter.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "starter" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.settings.arn]
  }
}

resource "aws_iam_role_policy" "starter" {
  role   = aws_iam_role.starter.id
  policy = data.aws_iam_policy_document.starter.json
}

resource "aws_cloudwatch_log_group" "server" {
  name_prefix       = "${var.name}-"
  retention_in_days = 30
}

resource "aws_ecs_cluster" "cluster" { name = var.name }

resource "aws_ecs_task_definition" "server" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 2048
  memory                   = 8192
  task_role_arn            = aws_iam_role.server.arn
  execution_role_arn       = aws_iam_role.starter.arn
  ephemeral_storage { size_in_gib = 60 }
  container_definitions = jsonencode([{
    name        = "treehold"
    image       = var.image
    stopTimeout = 120
    # Whether the process answers: one whose database is away is not to be replaced. The balancer asks whether it is ready. The image has
    # bash, and no client of HTTP.
    healthCheck = {
      command = ["CMD", "bash", "-c", join(" ", [
        "exec 3<>/dev/tcp/127.0.0.1/3001 &&",
        "printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 &&",
        "head -n 1 <&3 | grep -q ' 200'",
      ])]
      interval    = 30
      timeout     = 5
      retries     = 10
      startPeriod = 300
    }
    portMappings = [{ containerPort = 3001 }]
    environment = [
      { name = "TREEHOLD_STORE_URL", value = "s3://${aws_s3_bucket.objects.id}?region=${var.region}" },
      { name = "TREEHOLD_CACHE_DISK", value = tostring(40 * 1024 * 1024 * 1024) },
    ]
    secrets = [
      { name = "TREEHOLD_API_KEY", valueFrom = "${aws_secretsmanager_secret.settings.arn}:api_key::" },
      { name = "TREEHOLD_DATABASE_URL", valueFrom = "${aws_secretsmanager_secret.settings.arn}:database_url::" },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.server.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "server"
      }
    }
  }])
}

resource "aws_lb" "balancer" {
  name_prefix        = "tree-"
  internal           = true
  load_balancer_type = "application"
  security_groups    = [aws_security_group.balancer.id]
  subnets            = var.private_subnets
  # Under the 135 s after which servers close idle connections: so it is the balancer that closes them, and sends no request into one that
  # is just being closed (a 502). Long polls of the change feed are answered within 30 s; its streams have a sign of life every 15 s.
  idle_timeout = 120
}

resource "aws_lb_target_group" "servers" {
  name_prefix          = "tree-"
  port                 = 3001
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = var.vpc_id
  deregistration_delay = 60
  health_check {
    path                = "/readyz"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.balancer.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.servers.arn
  }
}

resource "aws_ecs_service" "server" {
  name            = var.name
  cluster         = aws_ecs_cluster.cluster.id
  task_definition = aws_ecs_task_definition.server.arn
  launch_type     = "FARGATE"
  desired_count   = 2
  # New ones first: they migrate, old ones keep working on the new schema.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  # A first start migrates before it answers.
  health_check_grace_period_seconds = 600
  depends_on                        = [aws_lb_listener.https]
  network_configuration {
    subnets         = var.private_subnets
    security_groups = [aws_security_group.server.id]
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.servers.arn
    container_name   = "treehold"
    container_port   = 3001
  }
}

output "url" { value = "https://${aws_lb.balancer.dns_name}" }
output "api_key" {
  value     = random_password.api_key.result
  sensitive = true
}
